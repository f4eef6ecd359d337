import java.util.HashSet;
import java.util.Set;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisCluster;

/** Jedis in cluster mode: Client HOST PORT KEYS. */
public final class Client {
    public static void main(String[] args) {
        HostAndPort start = new HostAndPort(args[0], Integer.parseInt(args[1]));
        int keys = Integer.parseInt(args[2]);
        try (JedisCluster cluster = new JedisCluster(Set.of(start))) {
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
