import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.HashSet;
import java.util.Set;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManagerFactory;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisCluster;
import redis.clients.jedis.exceptions.JedisException;

/** Jedis in cluster mode: Client HOST PORT KEYS [SECONDS], or HOST PORT types RESP. */
public final class Client {
    public static void main(String[] args)
            throws InterruptedException, IOException, GeneralSecurityException {
        HostAndPort start = new HostAndPort(args[0], Integer.parseInt(args[1]));
        if (args[2].equals("types")) {
            Types.run(start, args[3]);
            return;
        }
        int keys = Integer.parseInt(args[2]);
        try (JedisCluster cluster = connect(start, System.getenv("CLIENT_CA"))) {
            once(cluster, keys);
            if (args.length > 3) {
                onAndOn(cluster, keys, Long.parseLong(args[3]));
            }
        }
    }

    /** Over TLS, with servers that the CA in that file vouches for; in clear without one. */
    private static JedisCluster connect(HostAndPort start, String ca)
            throws IOException, GeneralSecurityException {
        if (ca == null) {
            return new JedisCluster(Set.of(start));
        }
        KeyStore known = KeyStore.getInstance(KeyStore.getDefaultType());
        known.load(null, null);
        try (InputStream pem = Files.newInputStream(Path.of(ca))) {
            CertificateFactory factory = CertificateFactory.getInstance("X.509");
            known.setCertificateEntry("ca", factory.generateCertificate(pem));
        }
        TrustManagerFactory managers =
                TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(known);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        SSLParameters parameters = new SSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        return new JedisCluster(
                Set.of(start),
                DefaultJedisClientConfig.builder()
                        .ssl(true)
                        .sslSocketFactory(context.getSocketFactory())
                        .sslParameters(parameters)
                        .build());
    }

    private static void once(JedisCluster cluster, int keys) {
        for (int number = 0; number < keys; number++) {
            cluster.set("jedis:" + number, Integer.toString(number));
        }
        for (int number = 0; number < keys; number++) {
            String value = cluster.get("jedis:" + number);
            if (!Integer.toString(number).equals(value)) {
                throw new AssertionError("key " + number + " is " + value);
            }
        }
        System.out.println("ok " + keys + " " + masters(cluster));
    }

    private static void onAndOn(JedisCluster cluster, int keys, long seconds) throws InterruptedException {
        long end = System.nanoTime() + seconds * 1_000_000_000L;
        while (System.nanoTime() < end) {
            int errors = 0;
            String value = Long.toString(System.nanoTime());
            for (int number = 0; number < keys; number++) {
                String key = "jedis:loop:" + number;
                try {
                    cluster.set(key, value);
                    String got = cluster.get(key);
                    if (!value.equals(got)) {
                        throw new JedisException("was not kept: " + got);
                    }
                } catch (JedisException error) {
                    errors++;
                    System.err.println(key + ": " + error);
                }
            }
            System.out.println("pass " + errors);
            Thread.sleep(50);
        }
    }

    /** The pools that slots lead to, as told apart by the ids of the nodes behind them. */
    private static int masters(JedisCluster cluster) {
        Set<String> ids = new HashSet<>();
        for (int slot = 0; slot < 16384; slot += 512) {
            try (Jedis jedis = new Jedis(cluster.getConnectionFromSlot(slot))) {
                ids.add(jedis.clusterMyId());
            }
        }
        return ids.size();
    }

    private Client() {}
}
