import io.debezium.serde.DebeziumSerdes;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.serialization.Serde;

/** Reads a value a line, as Debezium's own deserializer does, and prints what it finds in `before` or `after`. */
public class ReadValues {
  public static void main(String[] arguments) throws Exception {
    Serde<Map> before = serde("before");
    Serde<Map> after = serde("after");
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      byte[] value = line.getBytes(StandardCharsets.UTF_8);
      Map<?, ?> row = after.deserializer().deserialize("topic", value);
      Map<?, ?> old = before.deserializer().deserialize("topic", value);
      System.out.println((row == null ? "before " + new TreeMap<>(old) : "after " + new TreeMap<>(row)));
    }
  }

  private static Serde<Map> serde(String field) {
    Serde<Map> serde = DebeziumSerdes.payloadJson(Map.class);
    serde.configure(Map.of("from.field", field), false);
    return serde;
  }
}
