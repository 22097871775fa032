// Two processes of Iceberg in Java commit to one table at once, by locks or without them: no commit is lost.

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.DataFiles;
import org.apache.iceberg.PartitionSpec;
import org.apache.iceberg.Schema;
import org.apache.iceberg.Snapshot;
import org.apache.iceberg.Table;
import org.apache.iceberg.catalog.Namespace;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.hive.HiveCatalog;
import org.apache.iceberg.types.Types;

public class IcebergCommits {
    static final int COMMITS_EACH = 100;
    static final int WRITERS = 2;

    public static void main(String[] args) throws Exception {
        var catalog = new HiveCatalog();
        catalog.setConf(new Configuration());
        catalog.initialize("hive", Map.of("uri", args[0], "warehouse", args[1]));
        if (args.length > 3) {
            commit(catalog.loadTable(TableIdentifier.of("java", args[2])), args[3]);
            return;
        }
        catalog.createNamespace(Namespace.of("java"));
        for (String how : List.of("locks", "comparing")) {
            check(catalog, args, how);
        }
    }

    static void commit(Table table, String writer) {
        for (int done = 0; done < COMMITS_EACH; done++) {
            var file = DataFiles.builder(PartitionSpec.unpartitioned())
                    .withPath(table.location() + "/data/" + writer + "-" + done + ".parquet")
                    .withFileSizeInBytes(1).withRecordCount(1).build();
            table.newAppend().appendFile(file).commit();
        }
    }

    static void check(HiveCatalog catalog, String[] args, String how) throws Exception {
        var name = TableIdentifier.of("java", how);
        var schema = new Schema(Types.NestedField.optional(1, "id", Types.LongType.get()));
        catalog.createTable(name, schema, PartitionSpec.unpartitioned(), Map.of(
                "engine.hive.lock-enabled", String.valueOf(how.equals("locks")),
                "commit.retry.num-retries", "1000", "commit.retry.min-wait-ms", "10", "commit.retry.max-wait-ms", "200",
                "commit.retry.total-timeout-ms", "600000", "write.metadata.delete-after-commit.enabled", "false"));
        var began = System.nanoTime();
        var writers = new ArrayList<Process>();
        for (int writer = 0; writer < WRITERS; writer++) {
            var java = ProcessHandle.current().info().command().orElse("java");
            var command = List.of(java, "-Xmx256m", "-cp", System.getProperty("java.class.path"), args[2], args[0], args[1], how,
                    "writer" + writer);
            writers.add(new ProcessBuilder(command).inheritIO().start());
        }
        for (Process writer : writers) {
            if (writer.waitFor() != 0) throw new AssertionError("a writer failed");
        }
        var files = new java.util.HashSet<String>();
        int snapshots = 0;
        for (Snapshot snapshot : catalog.loadTable(name).snapshots()) {
            snapshots++;
            snapshot.addedDataFiles(catalog.loadTable(name).io()).forEach(file -> files.add(file.location()));
        }
        if (snapshots != WRITERS * COMMITS_EACH || files.size() != snapshots) {
            throw new AssertionError(how + ": " + snapshots + " snapshots, " + files.size() + " files");
        }
        System.out.println(how + ": " + snapshots + " commits in " + (System.nanoTime() - began) / 1_000_000 + " ms");
    }
}
