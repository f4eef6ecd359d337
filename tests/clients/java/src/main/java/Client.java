import java.util.HashSet;
import java.util.Set;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisCluster;
import redis.clients.jedis.exceptions.JedisException;

/** Jedis in cluster mode: Client HOST PORT KEYS [SECONDS], or HOST PORT types RESP. */
public final class Client {
    public static void main(String[] args) throws InterruptedException {
        HostAndPort start = new HostAndPort(args[0], Integer.parseInt(args[1]));
        if (args[2].equals("types")) {
            Types.run(start, args[3]);
            return;
        }
        int keys = Integer.parseInt(args[2]);
        try (JedisCluster cluster = new JedisCluster(Set.of(start))) {
            once(cluster, keys);
            if (args.length > 3) {
                onAndOn(cluster, keys, Long.parseLong(args[3]));
            }
        }
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
