// What Java is used for: code that the compilers make fast, garbage collected by several threads while it is made,
// a small HTTP server with its client, threads of all kinds.
import com.sun.net.httpserver.HttpServer;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAdder;
import java.util.stream.LongStream;

public class JavaWork {
  static long sieve(int limit) {
    boolean[] composite = new boolean[limit + 1];
    long sum = 0;
    for (int i = 2; i <= limit; ++i) {
      if (composite[i]) continue;
      sum += i;
      for (long j = (long) i * i; j <= limit; j += i) composite[(int) j] = true;
    }
    return sum;
  }

  static double nbody(int steps) {
    double[] x = {0, 4.84, 8.34, 12.89}, v = {0, 0.6, -1.01, 1.08}, m = {39.4, 0.03, 0.01, 0.001};
    for (int s = 0; s < steps; ++s) {
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) {
          if (i == j) continue;
          double d = x[i] - x[j], d2 = d * d + 0.1;
          v[i] -= d * m[j] * 0.0001 / (d2 * Math.sqrt(d2));
        }
      }
      for (int i = 0; i < 4; ++i) x[i] += v[i] * 0.0001;
    }
    return x[0] + x[1] + x[2] + x[3];
  }

  interface Shape { double area(); }
  record Circle(double r) implements Shape { public double area() { return Math.PI * r * r; } }
  record Square(double a) implements Shape { public double area() { return a * a; } }

  static void jit(int rounds) throws Exception {
    double total = 0;
    for (int round = 0; round < rounds; ++round) {
      for (int i = 0; i < 100000; ++i) {
        Shape shape = i % 3 == 0 ? new Circle(i % 10) : new Square(i % 7);
        total += shape.area();
      }
    }
    MessageDigest digest = MessageDigest.getInstance("SHA-256");
    byte[] block = new byte[65536];
    for (int i = 0; i < 10 * rounds; ++i) digest.update(block);
    System.out.printf("jit %d %.6f %.3f %s%n", sieve(250_000 * rounds), nbody(15_000 * rounds), total,
        HexFormat.of().formatHex(digest.digest()));
    int caught = 0;
    Object nothing = null;
    for (int i = 0; i < 5000; ++i) {  // compiled code finds a null pointer by SIGSEGV
      try {
        if (i % 2 == 0) nothing.hashCode();
        else caught += new int[1][0].length;
      } catch (NullPointerException e) {
        ++caught;
      }
    }
    System.out.println("null pointers " + caught);
  }

  static int depth(int n) { return depth(n + 1) + 1; }

  static void garbage() throws Exception {
    Thread[] threads = new Thread[4];
    LongAdder checks = new LongAdder();
    for (int t = 0; t < threads.length; ++t) {
      final int id = t;
      threads[t] = new Thread(() -> {
        Map<Integer, String> live = new HashMap<>();
        for (int i = 0; i < 300_000; ++i) {
          live.put(i % 5000, id + ":" + i);
          byte[] junk = new byte[i % 2000];
          if (junk.length > 0) junk[0] = 1;
        }
        for (String s : live.values()) checks.add(s.length());
      });
      threads[t].start();
    }
    for (Thread thread : threads) thread.join();
    List<byte[]> large = new ArrayList<>();
    for (int i = 0; i < 200; ++i) {
      large.add(new byte[1 << 20]);
      if (large.size() > 20) large.remove(0);
    }
    System.gc();
    System.out.println("garbage " + checks.sum() + " " + large.size());
    try {
      depth(0);
    } catch (StackOverflowError e) {
      System.out.println("stack overflow");
    }
    try {
      List<long[]> all = new ArrayList<>();
      while (true) all.add(new long[1 << 22]);
    } catch (OutOfMemoryError e) {
      System.out.println("out of memory");
    }
  }

  static void web() throws Exception {
    HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    var pool = Executors.newFixedThreadPool(4);
    server.setExecutor(pool);
    server.createContext("/", exchange -> {
      byte[] request = exchange.getRequestBody().readAllBytes();
      byte[] answer = (exchange.getRequestURI() + " " + request.length).getBytes(StandardCharsets.UTF_8);
      exchange.sendResponseHeaders(200, answer.length);
      exchange.getResponseBody().write(answer);
      exchange.close();
    });
    server.start();
    HttpClient client = HttpClient.newHttpClient();
    List<CompletableFuture<String>> answers = new ArrayList<>();
    for (int i = 0; i < 200; ++i) {
      URI uri = URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/" + i);
      HttpRequest request = HttpRequest.newBuilder(uri)
          .POST(HttpRequest.BodyPublishers.ofString("x".repeat(i))).build();
      answers.add(client.sendAsync(request, HttpResponse.BodyHandlers.ofString()).thenApply(HttpResponse::body));
      if (i % 10 == 9) answers.get(i).join();
    }
    long sum = 0;
    for (var answer : answers) sum = sum * 31 + answer.join().hashCode();
    System.out.println("web " + sum);
    server.stop(0);
    pool.shutdown();
    System.out.println("pool " + pool.awaitTermination(10, TimeUnit.SECONDS));
  }

  static void concurrent() throws Exception {
    long sum = new ForkJoinPool(4).submit(() -> LongStream.range(0, 3_000_000).parallel()
        .map(n -> n * n % 1000).sum()).get();
    var map = new ConcurrentHashMap<Integer, LongAdder>();
    var scheduler = Executors.newScheduledThreadPool(3);
    for (int i = 0; i < 500; ++i) {
      final int n = i;
      scheduler.schedule(() -> map.computeIfAbsent(n % 10, k -> new LongAdder()).add(n), i % 20, TimeUnit.MILLISECONDS);
    }
    scheduler.shutdown();
    System.out.println("scheduler " + scheduler.awaitTermination(20, TimeUnit.SECONDS));
    long total = 0;
    for (LongAdder adder : map.values()) total += adder.sum();
    Object monitor = new Object();
    int[] turns = {0};
    Thread[] threads = new Thread[8];
    for (int t = 0; t < 8; ++t) {
      final int id = t;
      threads[t] = new Thread(() -> {
        for (int i = 0; i < 200; ++i) {
          synchronized (monitor) {
            while (turns[0] % 8 != id) {
              try { monitor.wait(); } catch (InterruptedException e) { return; }
            }
            ++turns[0];
            monitor.notifyAll();
          }
        }
      });
      threads[t].start();
    }
    for (Thread thread : threads) thread.join();
    System.out.println("concurrent " + sum + " " + total + " " + turns[0]);
  }

  static void files() throws Exception {
    Path path = Path.of("java-data");
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      var map = channel.map(FileChannel.MapMode.READ_WRITE, 0, 1 << 20);
      for (int i = 0; i < 1 << 18; ++i) map.putInt(i * 4, i);
      map.force();
      ByteBuffer direct = ByteBuffer.allocateDirect(64);
      channel.read(direct, 4000);
      System.out.println("mapped " + direct.flip().getInt() + " " + channel.size());
    }
    Files.delete(path);
  }

  public static void main(String[] arguments) throws Exception {
    // Other threads would go on after an exception here.
    Thread.setDefaultUncaughtExceptionHandler((thread, error) -> {
      error.printStackTrace();
      Runtime.getRuntime().halt(1);
    });
    boolean all = arguments.length == 0;
    jit(all ? 20 : 1);
    if (all) garbage();
    web();
    concurrent();
    files();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
    System.exit(3);
  }
}
