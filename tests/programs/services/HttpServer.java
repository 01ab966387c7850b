// HttpServer PORT: the JDK's own server, on a pool of threads. What it answers is in services.py.
import com.sun.net.httpserver.HttpExchange;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Executors;

public class HttpServer {
  private static final Map<String, String> cache = new TreeMap<>();
  private static final Map<String, Integer> counts = new TreeMap<>();

  private static String hash(String key) {
    try {
      byte[] digest = MessageDigest.getInstance("SHA-256").digest(key.repeat(1000).getBytes());
      StringBuilder text = new StringBuilder();
      for (byte one : digest) text.append(String.format("%02x", one));
      return text.toString();
    } catch (GeneralSecurityException error) {
      throw new IllegalStateException(error);
    }
  }

  private static synchronized String answer(String what, String key) {
    switch (what) {
      case "value":
        return cache.computeIfAbsent(key, HttpServer::hash);
      case "count":
        return counts.merge(key, 1, Integer::sum).toString();
      case "peek":
        return counts.getOrDefault(key, 0).toString();
      default:
        return "cached " + cache.size();
    }
  }

  private static void serve(HttpExchange exchange) throws IOException {
    String[] words = exchange.getRequestURI().getPath().split("/", 3);
    byte[] text = answer(words[1], words.length > 2 ? words[2] : "").getBytes();
    exchange.sendResponseHeaders(200, text.length);
    exchange.getResponseBody().write(text);
    exchange.close();
  }

  public static void main(String[] arguments) throws IOException {
    InetSocketAddress address =
        new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(arguments[0]));
    com.sun.net.httpserver.HttpServer server =
        com.sun.net.httpserver.HttpServer.create(address, 64);
    server.createContext("/", HttpServer::serve);
    server.setExecutor(Executors.newFixedThreadPool(8));
    server.start();
  }
}
