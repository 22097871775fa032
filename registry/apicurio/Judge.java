import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.apicurio.registry.content.TypedContent;
import io.apicurio.registry.rules.compatibility.AvroCompatibilityChecker;
import io.apicurio.registry.rules.compatibility.CompatibilityChecker;
import io.apicurio.registry.rules.compatibility.CompatibilityLevel;
import io.apicurio.registry.rules.compatibility.JsonSchemaCompatibilityChecker;
import io.apicurio.registry.rules.compatibility.ProtobufCompatibilityChecker;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** What Apicurio's checkers say of the vectors in a folder: one line for each case of which they say something else. */
public class Judge {
    public static void main(String[] arguments) throws Exception {
        ask(Path.of(arguments[0], "avro.json"), new AvroCompatibilityChecker(), "application/json");
        ask(Path.of(arguments[0], "json.json"), new JsonSchemaCompatibilityChecker(), "application/json");
        ask(Path.of(arguments[0], "protobuf.json"), new ProtobufCompatibilityChecker(), "application/x-protobuf");
    }

    static void ask(Path file, CompatibilityChecker checker, String type) throws Exception {
        String format = file.getFileName().toString().replace(".json", "");
        int cases = 0;
        int agreed = 0;
        for (JsonNode one : new ObjectMapper().readTree(Files.readString(file))) {
            boolean isText = format.equals("protobuf");
            TypedContent older = TypedContent.create(isText ? one.get("old").asText() : one.get("old").toString(), type);
            TypedContent newer = TypedContent.create(isText ? one.get("new").asText() : one.get("new").toString(), type);
            for (CompatibilityLevel level : List.of(CompatibilityLevel.BACKWARD, CompatibilityLevel.FORWARD)) {
                String direction = level.name().toLowerCase();
                boolean ours = one.get(direction).asBoolean();
                String theirs = opinion(checker, level, older, newer);
                cases++;
                if (theirs.equals(ours ? "yes" : "no")) {
                    agreed++;
                } else {
                    String reason = one.get("reason").asText();
                    System.out.println(String.join("\t", format, direction, ours ? "yes" : "no", theirs, reason));
                }
            }
        }
        System.err.println(format + ": " + agreed + " of " + cases + " agree");
    }

    static String opinion(CompatibilityChecker checker, CompatibilityLevel level, TypedContent older, TypedContent newer) {
        try {
            return checker.testCompatibility(level, List.of(older), newer, Map.of()).isCompatible() ? "yes" : "no";
        } catch (Throwable error) {
            return "error: " + String.valueOf(error.getMessage()).lines().findFirst().orElse("none");
        }
    }
}
