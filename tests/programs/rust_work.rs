// Threads, channels, locks and scoped work of the standard library.
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{mpsc, Arc, Barrier, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

fn work(n: u64) -> u64 {
    (0..n).fold(n, |a, i| a.wrapping_mul(6364136223846793005).wrapping_add(i))
}

fn channels() {
    let (sender, receiver) = mpsc::sync_channel(4);
    for t in 0..8u64 {
        let sender = sender.clone();
        thread::spawn(move || for i in 0..500 { sender.send(work(t * 500 + i)).unwrap(); });
    }
    drop(sender);
    println!("channels {}", receiver.iter().fold(0u64, |a, b| a ^ b));
}

fn locks() {
    let table = Arc::new(RwLock::new(HashMap::new()));
    let barrier = Arc::new(Barrier::new(6));
    let count = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..6u64).map(|t| {
        let (table, barrier, count) = (table.clone(), barrier.clone(), count.clone());
        thread::Builder::new().name(format!("t{t}")).stack_size(128 << 10).spawn(move || {
            for i in 0..1000u64 {
                *table.write().unwrap().entry(i % 50).or_insert(0u64) += t * i;
                count.fetch_add(table.read().unwrap().len() as u64, Ordering::Relaxed);
            }
            barrier.wait().is_leader()
        }).unwrap()
    }).collect();
    let leaders = threads.into_iter().filter(|_| true).map(|t| t.join().unwrap()).filter(|l| *l).count();
    println!("locks {} {}", table.read().unwrap().values().sum::<u64>(), leaders);
}

fn turns() {
    let state = Arc::new((Mutex::new(0usize), Condvar::new()));
    thread::scope(|scope| for id in 0..4 {
        let state = state.clone();
        scope.spawn(move || for _ in 0..200 {
            let mut turn = state.1.wait_while(state.0.lock().unwrap(), |t| *t % 4 != id).unwrap();
            *turn += 1;
            state.1.notify_all();
        });
    });
    let start = Instant::now();
    let lock = state.0.lock().unwrap();
    let (_, timed) = state.1.wait_timeout(lock, Duration::from_millis(20)).unwrap();
    println!("turns {} {}", timed.timed_out(), start.elapsed() >= Duration::from_millis(20));
}

fn network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || for stream in listener.incoming().take(20) {
        let mut stream = stream.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).unwrap();
    });
    let total: usize = (0..20).map(|i| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all("hello ".repeat(i * 100).as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.matches("HELLO").count()
    }).sum();
    server.join().unwrap();
    println!("network {total}");
}

fn panics() {
    std::panic::set_hook(Box::new(|_| {}));
    let result = thread::spawn(|| { if work(3) != 0 { panic!("on purpose") } }).join();
    println!("panic {:?}", result.unwrap_err().downcast_ref::<&str>());
}

fn main() {
    channels();
    locks();
    turns();
    network();
    panics();
    println!("parallel {}", thread::available_parallelism().unwrap());
}
