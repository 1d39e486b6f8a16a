// Writes and reads what the golden files hold; see README.md. Run by record.sh with Kafka's jars on the class path.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

public class Recorder {
    static final long DAY = 86_400_000L;
    static final long START = 1_700_000_000_000L;
    static String bootstrap;

    static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    static KafkaProducer<byte[], byte[]> producer(String... settings) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("linger.ms", "200");
        properties.put("key.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
        properties.put("value.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
        for (int i = 0; i < settings.length; i += 2) properties.put(settings[i], settings[i + 1]);
        return new KafkaProducer<>(properties);
    }

    static ProducerRecord<byte[], byte[]> record(String topic, long time, String key, String value, Header... headers) {
        return new ProducerRecord<>(topic, 0, time, bytes(key), bytes(value), List.of(headers));
    }

    static NewTopic topic(String name, String... settings) {
        Map<String, String> configs = new HashMap<>();
        for (int i = 0; i < settings.length; i += 2) configs.put(settings[i], settings[i + 1]);
        return new NewTopic(name, 1, (short) 1).configs(configs);
    }

    static void createTopics() throws Exception {
        try (Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(
                topic("plain", "segment.ms", "3600000", "index.interval.bytes", "100", "retention.ms", "-1"),
                topic("codecs", "retention.ms", "-1", "index.interval.bytes", "1"),
                topic("appended", "retention.ms", "-1", "message.timestamp.type", "LogAppendTime"),
                topic("txn", "segment.ms", "3600000", "retention.ms", "-1", "index.interval.bytes", "100"),
                topic("compacted", "segment.ms", "3600000", "cleanup.policy", "compact",
                      "min.cleanable.dirty.ratio", "0.01", "index.interval.bytes", "100"))).all().get();
        }
    }

    /** Three segments: a day lies between their records, segment.ms is an hour. Null keys, null values, headers. */
    static void plain() {
        try (var producer = producer("enable.idempotence", "false", "acks", "1")) {
            for (int day = 0; day < 3; day++) {
                for (int batch = 0; batch < 3; batch++) {
                    long time = START + day * DAY + batch * 1000;
                    producer.send(record("plain", time, "k" + batch, "day " + day + " batch " + batch));
                    producer.send(record("plain", time + 1, null, "no key"));
                    producer.send(record("plain", time + 2, "no value", null));
                    producer.send(record("plain", time + 3, null, null,
                        new RecordHeader("trace", bytes("abc")), new RecordHeader("none", (byte[]) null),
                        new RecordHeader("", new byte[] {(byte) 0xff, 0})));
                    producer.flush();
                }
            }
        }
    }

    static void codecs() {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            try (var producer = producer("compression.type", codec)) {
                for (int i = 0; i < 5; i++)
                    producer.send(record("codecs", START + i, "key" + i, (codec + " ").repeat(20), new RecordHeader("n", bytes("" + i))));
                producer.flush();
                producer.send(record("codecs", START + 9, "again", codec));
            }
        }
    }

    static void appended() {
        try (var producer = producer("compression.type", "gzip")) {
            for (int i = 0; i < 3; i++) producer.send(record("appended", START + i, "k", "v" + i));
        }
    }

    static void transactions() {
        try (var producer = producer("transactional.id", "recorder")) {
            producer.initTransactions();
            for (int round = 0; round < 4; round++) {
                producer.beginTransaction();
                for (int i = 0; i < 2; i++)
                    producer.send(record("txn", START + round / 2 * DAY + i, "t" + round, "value " + i));
                producer.flush();
                if (round % 2 == 0) producer.commitTransaction();
                else producer.abortTransaction();
            }
            producer.beginTransaction();
            producer.send(record("txn", START + DAY + 7, "open", "with offsets"));
            producer.sendOffsetsToTransaction(Map.of(new TopicPartition("plain", 0), new OffsetAndMetadata(3, "in a transaction")),
                new org.apache.kafka.clients.consumer.ConsumerGroupMetadata("audit"));
            producer.commitTransaction();
        }
    }

    static void compacted() {
        try (var producer = producer()) {
            for (int round = 0; round < 4; round++) {
                for (int i = 0; i < 4; i++)
                    producer.send(record("compacted", START + round * DAY + i, "k" + (i * (round + 1) % 5), i == 3 ? null : "round " + round));
                producer.flush();
            }
        }
    }

    static void consume(String group, String... settings) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("group.id", group);
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        properties.put("key.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        properties.put("value.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        for (int i = 0; i < settings.length; i += 2) properties.put(settings[i], settings[i + 1]);
        try (var consumer = new KafkaConsumer<byte[], byte[]>(properties)) {
            consumer.subscribe(List.of("plain"));
            int count = 0;
            long deadline = System.currentTimeMillis() + 60_000;
            while (count < 36 && System.currentTimeMillis() < deadline) count += consumer.poll(Duration.ofMillis(200)).count();
            if (count < 36) throw new IllegalStateException(group + " read only " + count);
            consumer.commitSync(Map.of(new TopicPartition("plain", 0), new OffsetAndMetadata(count, "done")));
        }
    }

    static void deleteRecords() throws Exception {
        try (Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", bootstrap))) {
            admin.deleteRecords(Map.of(new TopicPartition("plain", 0),
                org.apache.kafka.clients.admin.RecordsToDelete.beforeOffset(2))).all().get();
            admin.deleteConsumerGroupOffsets("audit", java.util.Set.of(new TopicPartition("plain", 0))).all().get();
        }
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        createTopics();
        plain();
        codecs();
        appended();
        transactions();
        compacted();
        consume("billing", "client.id", "reader", "group.instance.id", "desk-1");
        consume("modern", "group.protocol", "consumer", "client.id", "reader");
        deleteRecords();
    }
}
