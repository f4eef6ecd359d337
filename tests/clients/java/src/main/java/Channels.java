import io.lettuce.core.RedisURI;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.cluster.pubsub.StatefulRedisClusterPubSubConnection;
import io.lettuce.core.pubsub.api.reactive.ChannelMessage;
import io.lettuce.core.pubsub.api.reactive.PatternMessage;
import io.lettuce.core.pubsub.api.reactive.RedisPubSubReactiveCommands;
import java.time.Duration;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import reactor.core.publisher.Flux;

/** Channels and patterns with Lettuce's reactive interface, in cluster mode: Channels HOST PORT */
public final class Channels {
    private static final int MESSAGES = 500;
    private static final Duration PATIENCE = Duration.ofSeconds(20);

    public static void main(String[] args) {
        RedisURI start = RedisURI.create(args[0], Integer.parseInt(args[1]));
        start.setTimeout(PATIENCE);
        RedisClusterClient client = RedisClusterClient.create(start);
        try (StatefulRedisClusterPubSubConnection<String, String> listening = client.connectPubSub();
                StatefulRedisClusterPubSubConnection<String, String> speaking = client.connectPubSub()) {
            // A message stays in the shard that it was published at.
            RedisPubSubReactiveCommands<String, String> listener = at(listening, args);
            RedisPubSubReactiveCommands<String, String> speaker = at(speaking, args);
            messages(listener, speaker);
            patterns(listener, speaker);
            ends(listener, speaker);
        }
        client.shutdown(Duration.ZERO, PATIENCE);
        System.out.println("ok " + MESSAGES);
    }

    private static RedisPubSubReactiveCommands<String, String> at(
            StatefulRedisClusterPubSubConnection<String, String> cluster, String[] args) {
        return cluster.getConnection(args[0], Integer.parseInt(args[1])).reactive();
    }

    private static void same(Object seen, Object right, String what) {
        if (!seen.equals(right)) {
            throw new AssertionError(what + ": " + seen + ", not " + right);
        }
    }

    private static List<String> texts(String channel) {
        return IntStream.range(0, MESSAGES).mapToObj(number -> channel + " " + number).collect(Collectors.toList());
    }

    /** What is published one after the other arrives in that order, once, and only on its channel. */
    private static void messages(
            RedisPubSubReactiveCommands<String, String> listener,
            RedisPubSubReactiveCommands<String, String> speaker) {
        listener.subscribe("news", "sport").block(PATIENCE);
        Flux<ChannelMessage<String, String>> heard = listener.observeChannels().take(2L * MESSAGES).cache();
        heard.subscribe();
        List<Long> counts = Flux.range(0, MESSAGES)
                .concatMap(number -> speaker.publish("news", "news " + number)
                        .concatWith(speaker.publish("sport", "sport " + number))
                        .concatWith(speaker.publish("weather", "nobody listens")))
                .collectList()
                .block(PATIENCE);
        same(counts.size(), 3 * MESSAGES, "answers to PUBLISH");
        List<ChannelMessage<String, String>> all = heard.collectList().block(PATIENCE);
        for (String channel : List.of("news", "sport")) {
            List<String> texts = all.stream()
                    .filter(message -> message.getChannel().equals(channel))
                    .map(ChannelMessage::getMessage)
                    .collect(Collectors.toList());
            same(texts, texts(channel), "messages of " + channel);
        }
    }

    private static void patterns(
            RedisPubSubReactiveCommands<String, String> listener,
            RedisPubSubReactiveCommands<String, String> speaker) {
        listener.psubscribe("user:*:seen", "user:[ab]:*").block(PATIENCE);
        // Both patterns fit the first channel, one the second, none the third.
        Flux<PatternMessage<String, String>> heard = listener.observePatterns().take(3).cache();
        heard.subscribe();
        speaker.publish("user:a:seen", "1").block(PATIENCE);
        speaker.publish("user:c:gone", "2").block(PATIENCE);
        speaker.publish("user:c:seen", "3").block(PATIENCE);
        List<String> texts = heard.map(message -> message.getPattern() + " " + message.getMessage())
                .sort()
                .collectList()
                .block(PATIENCE);
        same(texts, List.of("user:*:seen 1", "user:*:seen 3", "user:[ab]:* 1"), "messages of patterns");
    }

    /** After UNSUBSCRIBE nothing comes any more, and the connection goes on. */
    private static void ends(
            RedisPubSubReactiveCommands<String, String> listener,
            RedisPubSubReactiveCommands<String, String> speaker) {
        Flux<ChannelMessage<String, String>> heard = listener.observeChannels().take(1).cache();
        heard.subscribe();
        listener.unsubscribe("news").block(PATIENCE);
        speaker.publish("news", "too late").block(PATIENCE);
        speaker.publish("sport", "last").block(PATIENCE);
        same(heard.blockLast(PATIENCE).getMessage(), "last", "the message after UNSUBSCRIBE");
        same(listener.ping().block(PATIENCE), "PONG", "PING of a subscriber");
    }
}
