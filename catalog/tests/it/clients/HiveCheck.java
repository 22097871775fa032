import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hive.metastore.HiveMetaStoreClient;
import org.apache.hadoop.hive.metastore.TableType;
import org.apache.hadoop.hive.metastore.api.*;
import org.apache.hadoop.hive.metastore.conf.MetastoreConf;

/** What Hive 4's own client asks, method by method; it ends badly if anything was not as expected. */
public class HiveCheck {
    interface Call {
        Object run() throws Exception;
    }

    static int wrong = 0;

    static void is(Object expected, Call call) {
        try {
            Object found = call.run();
            if (!String.valueOf(expected).equals(String.valueOf(found))) {
                wrong(found + ", expected " + expected);
            }
        } catch (Exception error) {
            wrong(error + ", expected " + expected + " at " + error.getStackTrace()[0]);
        }
    }

    static void fails(Class<?> kind, String message, Call call) {
        try {
            wrong(call.run() + ", expected " + kind);
        } catch (Exception error) {
            if (!kind.isInstance(error) || !error.getMessage().contains(message)) {
                wrong(error + ", expected " + kind + ": " + message);
            }
        }
    }

    static void wrong(String what) {
        wrong++;
        System.err.println("WRONG: " + what);
    }

    static ColumnStatistics statistics(String partition) {
        ColumnStatisticsDesc desc = new ColumnStatisticsDesc(partition == null, "web", "t");
        desc.setPartName(partition);
        LongColumnStatsData longs = new LongColumnStatsData(1, 2);
        longs.setLowValue(1);
        longs.setHighValue(5);
        ColumnStatisticsData data = new ColumnStatisticsData();
        data.setLongStats(longs);
        ColumnStatistics statistics = new ColumnStatistics(desc, new ArrayList<>());
        statistics.addToStatsObj(new ColumnStatisticsObj("id", "bigint", data));
        statistics.setEngine("hive");
        return statistics;
    }

    public static void main(String[] args) throws Exception {
        Configuration conf = MetastoreConf.newMetastoreConf();
        MetastoreConf.setVar(conf, MetastoreConf.ConfVars.THRIFT_URIS, args[0]);
        HiveMetaStoreClient client = new HiveMetaStoreClient(conf);
        short all = -1;

        Database web = new Database("Web", "about", null, new HashMap<>());
        client.createDatabase(web);
        fails(AlreadyExistsException.class, "Database web already exists", () -> {
            client.createDatabase(web);
            return "made";
        });
        is("[default, web]", () -> client.getAllDatabases());
        is("[web]", () -> client.getDatabases("w*"));
        is("about", () -> client.getDatabase("WEB").getDescription());
        fails(NoSuchObjectException.class, "nope", () -> client.getDatabase("nope"));

        List<FieldSchema> columns = List.of(new FieldSchema("id", "bigint", null), new FieldSchema("name", "string", "c"));
        StorageDescriptor storage = new StorageDescriptor(new ArrayList<>(columns), null, "in", "out", false, -1,
            new SerDeInfo(null, "lib", new HashMap<>()), new ArrayList<>(), new ArrayList<>(), new HashMap<>());
        List<FieldSchema> keys = List.of(new FieldSchema("ds", "string", null), new FieldSchema("k", "int", null));
        Table table = new Table("T", "web", "ada", 0, 0, 0, storage, new ArrayList<>(keys), new HashMap<>(), null, null,
            "MANAGED_TABLE");
        client.createTable(table.deepCopy());
        fails(AlreadyExistsException.class, "Table hive.web.t already exists", () -> {
            client.createTable(table.deepCopy());
            return "made";
        });
        is("t", () -> client.getTable("web", "T").getTableName());
        fails(NoSuchObjectException.class, "hive.web.nope table not found", () -> client.getTable("web", "nope"));
        is("true false", () -> client.tableExists("web", "t") + " " + client.tableExists("web", "nope"));
        is("[t]", () -> client.getAllTables("web"));
        is("[t]", () -> client.getTables("web", "T*"));
        is("[]", () -> client.getTables("web", "*", TableType.VIRTUAL_VIEW));
        is(1, () -> client.getTableMeta("web", "*", new ArrayList<>()).size());
        is(1, () -> client.getTableObjectsByName("web", List.of("t", "nope")).size());
        is(2, () -> client.getFields("web", "t").size());
        is(4, () -> client.getSchema("web", "t").size());

        Partition first = new Partition(List.of("a", "1"), "web", "t", 0, 0, storage.deepCopy(), new HashMap<>());
        is("[a, 1]", () -> client.add_partition(first.deepCopy()).getValues());
        Partition second = first.deepCopy();
        second.setValues(List.of("b", "2"));
        List<Partition> both = new ArrayList<>(List.of(first.deepCopy(), second));
        is(1, () -> client.add_partitions(both, true, true).size());
        is("[c, 3]", () -> client.appendPartition("web", "t", List.of("c", "3")).getValues());
        is("[d, 4]", () -> client.appendPartition("web", "t", "ds=d/k=4").getValues());
        is("[a, 1]", () -> client.getPartition("web", "t", List.of("a", "1")).getValues());
        is("[a, 1]", () -> client.getPartition("web", "t", "ds=a/k=1").getValues());
        is("[a, 1]", () -> client.getPartitionWithAuthInfo("web", "t", List.of("a", "1"), "u", List.of()).getValues());
        fails(NoSuchObjectException.class, "partition values=[z, 1]",
            () -> client.getPartition("web", "t", List.of("z", "1")));
        is(4, () -> client.listPartitions("web", "t", all).size());
        is(1, () -> client.listPartitions("web", "t", List.of("a"), all).size());
        is(1, () -> client.listPartitionsWithAuthInfo("web", "t", List.of("a"), all, "u", List.of()).size());
        is("[ds=a/k=1, ds=b/k=2, ds=c/k=3, ds=d/k=4]", () -> client.listPartitionNames("web", "t", all));
        is("[ds=a/k=1]", () -> client.listPartitionNames("web", "t", List.of("", "1"), all));
        is(2, () -> client.listPartitionsByFilter("web", "t", "k > 2", all).size());
        is(2, () -> client.getNumPartitionsByFilter("web", "t", "k > 2"));
        is(2, () -> client.listPartitionSpecsByFilter("web", "t", "k > 2", -1).size());
        is(4, () -> client.listPartitionSpecs("web", "t", -1).size());
        is(1, () -> client.getPartitionsByNames("web", "t", List.of("ds=a/k=1", "ds=z/k=1")).size());
        is(1, () -> client.getPartitionsWithSpecs(
            new GetPartitionsRequest("web", "t", new GetProjectionsSpec(), new GetPartitionsFilterSpec()))
            .getPartitionSpecSize());

        Partition changed = client.getPartition("web", "t", "ds=a/k=1");
        changed.getParameters().put("n", "1");
        client.alter_partition("web", "t", changed, new EnvironmentContext());
        client.alter_partitions("web", "t", List.of(changed));
        is("1", () -> client.getPartition("web", "t", "ds=a/k=1").getParameters().get("n"));
        Partition renamed = client.getPartition("web", "t", "ds=c/k=3");
        // One in its usual folder is not renamed: its files would stay there.
        renamed.getSd().setLocation(renamed.getSd().getLocation() + "_elsewhere");
        client.alter_partition("web", "t", renamed, new EnvironmentContext());
        renamed.setValues(List.of("e", "3"));
        client.renamePartition("web", "t", List.of("c", "3"), renamed);
        is("[ds=e/k=3]", () -> client.listPartitionNames("web", "t", List.of("e"), all));
        Table wider = client.getTable("web", "t");
        wider.getSd().addToCols(new FieldSchema("z", "int", null));
        client.alter_table("web", "t", wider, true);
        is(3, () -> client.getPartition("web", "t", "ds=a/k=1").getSd().getColsSize());

        client.updateTableColumnStatistics(statistics(null));
        is(1, () -> client.getTableColumnStatistics("web", "t", List.of("id", "name"), "hive").size());
        client.updatePartitionColumnStatistics(statistics("ds=a/k=1"));
        is("[ds=a/k=1]", () -> client.getPartitionColumnStatistics("web", "t", List.of("ds=a/k=1"), List.of("id"), "hive")
            .keySet());
        is(1, () -> client.getAggrColStatsFor("web", "t", List.of("id"), List.of("ds=a/k=1"), "hive").getPartsFound());

        is("[]", () -> client.getPrimaryKeys(new PrimaryKeysRequest("web", "t")));
        is("[]", () -> client.getNotNullConstraints(new NotNullConstraintsRequest("hive", "web", "t")));
        is("[]", () -> client.getFunctions("web", "*"));
        is("[hive]", () -> client.getCatalogs());
        LockComponent component = new LockComponent(LockType.EXCLUSIVE, LockLevel.TABLE, "web");
        component.setTablename("t");
        LockResponse lock = client.lock(new LockRequest(List.of(component), "ada", "there"));
        client.heartbeat(0, lock.getLockid());
        is(LockState.ACQUIRED, () -> client.checkLock(lock.getLockid()).getState());
        is(1, () -> client.showLocks(new ShowLocksRequest()).getLocksSize());
        client.unlock(lock.getLockid());

        is(true, () -> client.dropPartition("web", "t", List.of("b", "2"), true));
        is(true, () -> client.dropPartition("web", "t", "ds=e/k=3", true));
        fails(InvalidOperationException.class, "Database web is not empty. One or more tables exist.", () -> {
            client.dropDatabase("web", true, false, false);
            return "dropped";
        });
        client.dropTable("web", "t", true, false);
        client.createTable(table.deepCopy());
        client.dropDatabase("web", true, false, true);
        is("[default]", () -> client.getAllDatabases());
        client.close();
        System.exit(wrong == 0 ? 0 : 1);
    }
}
