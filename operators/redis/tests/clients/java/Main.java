import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Set;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.JedisClientConfig;
import redis.clients.jedis.Pipeline;
import redis.clients.jedis.RedisClient;
import redis.clients.jedis.RedisClusterClient;
import redis.clients.jedis.RedisSentinelClient;
import redis.clients.jedis.Response;
import redis.clients.jedis.SslOptions;
import redis.clients.jedis.SslVerifyMode;
import redis.clients.jedis.UnifiedJedis;

/**
 * An application with Jedis: Main MODE BINDING RUN QUICK
 *
 * <p>Writes numbers, one after the other, under keys RUN:1, RUN:2, ... until its standard input ends, and says `wrote N` of each
 * that is safe. The first QUICK without a pause. Ends with an error if it cannot write the first.
 */
public final class Main {
  private static final int PAUSE = 10;
  private static volatile boolean ended;

  private final String mode;
  private final Path binding;

  private Main(String mode, Path binding) {
    this.mode = mode;
    this.binding = binding;
  }

  private String secret(String key) throws IOException {
    return Files.readString(binding.resolve(key));
  }

  private HostAndPort place(String host, String port) throws IOException {
    return new HostAndPort(secret(host), Integer.parseInt(secret(port)));
  }

  /** Trusts the authority of the binding and nobody else, for hosts that its certificates name. */
  private SslOptions verified() throws Exception {
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    byte[] ca = Files.readAllBytes(binding.resolve("ca.crt"));
    int number = 0;
    for (var certificate :
        CertificateFactory.getInstance("X.509").generateCertificates(new ByteArrayInputStream(ca))) {
      store.setCertificateEntry("ca-" + number++, certificate);
    }
    ByteArrayOutputStream written = new ByteArrayOutputStream();
    char[] password = "nothing is secret in it".toCharArray();
    store.store(written, password);
    return SslOptions.builder()
        .sslVerifyMode(SslVerifyMode.FULL)
        .truststore(() -> new ByteArrayInputStream(written.toByteArray()), password)
        .build();
  }

  private UnifiedJedis connect() throws Exception {
    JedisClientConfig login =
        DefaultJedisClientConfig.builder()
            .sslOptions(verified())
            .user(secret("username"))
            .password(secret("password"))
            .connectionTimeoutMillis(1000)
            .socketTimeoutMillis(3000)
            .build();
    return switch (mode) {
      case "sentinel" ->
          RedisSentinelClient.builder()
              .masterName(secret("sentinel-master"))
              .sentinels(Set.of(place("sentinel-host", "sentinel-port")))
              .sentinelClientConfig(login)
              .clientConfig(login)
              .build();
      case "cluster" -> RedisClusterClient.builder().nodes(Set.of(place("host", "port"))).clientConfig(login).build();
      default -> RedisClient.builder().hostAndPort(place("host", "port")).clientConfig(login).build();
    };
  }

  private void put(UnifiedJedis client, String key, String value) {
    if (mode.equals("cluster")) {
      client.set(key, value);
      return;
    }
    // By a replica besides: such a write outlives every election.
    Response<String> written;
    Response<Long> replicas;
    try (Pipeline pipeline = (Pipeline) client.pipelined()) {
      written = pipeline.set(key, value);
      replicas = pipeline.waitReplicas(1, 1000);
      pipeline.sync();
    }
    written.get();
    if (replicas.get() < 1) {
      throw new IllegalStateException("no replica has confirmed it");
    }
  }

  private static void listen() {
    try {
      System.in.readAllBytes();
    } catch (IOException gone) {
      // That is an end as well.
    }
    ended = true;
  }

  public static void main(String[] arguments) throws Exception {
    Main main = new Main(arguments[0], Path.of(arguments[1]));
    String run = arguments[2];
    int quick = Integer.parseInt(arguments[3]);
    Thread listener = new Thread(Main::listen);
    listener.setDaemon(true);
    listener.start();
    try (UnifiedJedis client = main.connect()) {
      for (int number = 1; number == 1 || !ended; ) {
        try {
          main.put(client, run + ":" + number, String.valueOf(number));
        } catch (RuntimeException error) {
          if (number == 1) {
            throw error;
          }
          System.err.println(number + ": " + error);
          Thread.sleep(PAUSE);
          continue;
        }
        System.out.println("wrote " + number);
        if (number >= quick) {
          Thread.sleep(PAUSE);
        }
        number++;
      }
    }
  }
}
