import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.catalog.CatalogBaseTable;
import org.apache.flink.table.catalog.CatalogPartitionImpl;
import org.apache.flink.table.catalog.CatalogPartitionSpec;
import org.apache.flink.table.catalog.CatalogTable;
import org.apache.flink.table.catalog.ObjectPath;
import org.apache.flink.table.catalog.ResolvedCatalogTable;
import org.apache.flink.table.catalog.ResolvedSchema;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.table.catalog.exceptions.PartitionAlreadyExistsException;
import org.apache.flink.table.catalog.exceptions.TableNotExistException;
import org.apache.flink.table.catalog.hive.HiveCatalog;
import org.apache.flink.table.catalog.stats.CatalogColumnStatistics;
import org.apache.flink.table.catalog.stats.CatalogColumnStatisticsDataLong;
import org.apache.flink.table.catalog.stats.CatalogTableStatistics;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;
import org.apache.hadoop.hive.conf.HiveConf;

/** What Flink's Hive catalog asks of a metastore: its own tables, Hive's tables, partitions, statistics and functions. */
public class FlinkCheck {
    static void expect(Object found, Object wanted) {
        if (!found.equals(wanted)) {
            throw new AssertionError("found " + found + ", expected " + wanted);
        }
    }

    static List<Row> rows(TableEnvironment env, String sql) throws Exception {
        List<Row> rows = new ArrayList<>();
        try (CloseableIterator<Row> found = env.executeSql(sql).collect()) {
            found.forEachRemaining(rows::add);
        }
        return rows;
    }

    public static void main(String[] args) throws Exception {
        HiveConf conf = new HiveConf();
        conf.set("hive.metastore.uris", args[0]);
        HiveCatalog catalog = new HiveCatalog("hms", "default", conf, "2.3.10");
        TableEnvironment env = TableEnvironment.create(EnvironmentSettings.inBatchMode());
        env.registerCatalog("hms", catalog);
        env.useCatalog("hms");

        // Tables of Flink itself, whose columns are in parameters.
        env.executeSql("CREATE DATABASE flink COMMENT 'of Flink' WITH ('k' = 'v')");
        expect(catalog.getDatabase("flink").getProperties().get("k"), "v");
        env.executeSql("CREATE TABLE flink.made (id BIGINT NOT NULL, name STRING, at_time TIMESTAMP(3), "
            + "WATERMARK FOR at_time AS at_time - INTERVAL '5' SECOND, PRIMARY KEY (id) NOT ENFORCED) "
            + "WITH ('connector' = 'datagen', 'number-of-rows' = '5')");
        expect(rows(env, "SHOW TABLES IN flink").toString(), "[+I[made]]");
        ResolvedSchema schema = env.from("flink.made").getResolvedSchema();
        expect(schema.getColumnNames(), Arrays.asList("id", "name", "at_time"));
        expect(schema.getPrimaryKey().get().getColumns(), Arrays.asList("id"));
        expect(schema.getWatermarkSpecs().size(), 1);
        expect(rows(env, "SELECT count(*) FROM flink.made").toString(), "[+I[5]]");
        env.executeSql("ALTER TABLE flink.made SET ('number-of-rows' = '7')");
        env.executeSql("ALTER TABLE flink.made RENAME TO renamed");
        expect(rows(env, "SELECT count(*) FROM flink.renamed").toString(), "[+I[7]]");
        env.executeSql("CREATE VIEW flink.seen AS SELECT id FROM flink.renamed");
        expect(catalog.listViews("flink"), Arrays.asList("seen"));

        // Tables of Hive.
        ObjectPath path = new ObjectPath("flink", "hits");
        Schema unresolved = Schema.newBuilder().column("id", DataTypes.BIGINT()).column("name", DataTypes.STRING())
            .column("day", DataTypes.STRING()).build();
        ResolvedSchema resolved = ResolvedSchema.of(Column.physical("id", DataTypes.BIGINT()),
            Column.physical("name", DataTypes.STRING()), Column.physical("day", DataTypes.STRING()));
        CatalogTable table = CatalogTable.of(unresolved, "of Hive", Arrays.asList("day"), Map.of("connector", "hive"));
        catalog.createTable(path, new ResolvedCatalogTable(table, resolved), false);
        CatalogBaseTable found = catalog.getTable(path);
        expect(((CatalogTable) found).getPartitionKeys(), Arrays.asList("day"));
        expect(found.getComment(), "of Hive");
        for (String day : Arrays.asList("x", "y/z")) {
            CatalogPartitionSpec spec = new CatalogPartitionSpec(Map.of("day", day));
            catalog.createPartition(path, spec, new CatalogPartitionImpl(new HashMap<>(Map.of("of", day)), null), false);
        }
        CatalogPartitionSpec first = new CatalogPartitionSpec(Map.of("day", "x"));
        try {
            catalog.createPartition(path, first, new CatalogPartitionImpl(new HashMap<>(), null), false);
            throw new AssertionError("a partition was made twice");
        } catch (PartitionAlreadyExistsException expected) {
        }
        expect(catalog.listPartitions(path).size(), 2);
        expect(catalog.getPartition(path, new CatalogPartitionSpec(Map.of("day", "y/z"))).getProperties().get("of"), "y/z");

        CatalogTableStatistics counts = new CatalogTableStatistics(9, 2, 100, 200);
        catalog.alterPartitionStatistics(path, first, counts, false);
        expect(catalog.getPartitionStatistics(path, first).getRowCount(), 9L);
        CatalogColumnStatistics columns = new CatalogColumnStatistics(
            Map.of("id", new CatalogColumnStatisticsDataLong(1L, 9L, 5L, 2L)));
        catalog.alterPartitionColumnStatistics(path, first, columns, false);
        CatalogColumnStatisticsDataLong ids = (CatalogColumnStatisticsDataLong)
            catalog.getPartitionColumnStatistics(path, first).getColumnStatisticsData().get("id");
        expect(ids.getMax(), 9L);
        expect(ids.getNdv(), 5L);
        catalog.dropPartition(path, first, false);
        expect(catalog.partitionExists(path, first), false);

        env.executeSql("CREATE FUNCTION flink.f AS 'org.apache.flink.table.functions.hive.HiveGenericUDF'");
        expect(catalog.listFunctions("flink"), Arrays.asList("f"));
        env.executeSql("DROP FUNCTION flink.f");
        expect(catalog.listFunctions("flink"), Collections.emptyList());
        try {
            catalog.getTable(new ObjectPath("flink", "nope"));
            throw new AssertionError("a table that nobody made");
        } catch (TableNotExistException expected) {
        }
        env.executeSql("DROP DATABASE flink CASCADE");
        expect(catalog.databaseExists("flink"), false);
        catalog.close();
        System.out.println("ok");
    }
}
