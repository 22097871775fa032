import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/**
 * What a JDBC tool does with a Flight SQL server: connect, list, describe, prepare with parameters, query, update, cancel,
 * a big result. Prints one line per step that was right; ends with an exception at a wrong one.
 *
 * <p>usage: java -cp driver.jar Check.java HOST:PORT [BIG_ROWS]
 */
public final class Check {
  private static void done(String step) {
    System.out.println("ok " + step);
    System.out.flush();
  }

  private static void expect(Object actual, Object wanted) {
    if (!wanted.equals(actual)) {
      throw new AssertionError("got " + actual + ", wanted " + wanted);
    }
  }

  private static List<String> column(ResultSet rows, String name) throws SQLException {
    List<String> values = new ArrayList<>();
    try (rows) {
      while (rows.next()) {
        values.add(rows.getString(name));
      }
    }
    return values;
  }

  private static Connection connect(String address, String more) throws SQLException {
    Properties properties = new Properties();
    properties.put("user", "tester");
    properties.put("password", "");
    properties.put("useEncryption", "false");
    return DriverManager.getConnection("jdbc:arrow-flight-sql://" + address + "/?useEncryption=false" + more, properties);
  }

  public static void main(String[] arguments) throws Exception {
    String address = arguments[0];
    long bigRows = arguments.length > 1 ? Long.parseLong(arguments[1]) : 10_000_000L;
    try (Connection connection = connect(address, ""); Statement statement = connection.createStatement()) {
      try (ResultSet rows = statement.executeQuery("select 1 as one, 'zwei' as two, cast(null as int) as nothing")) {
        expect(rows.next(), true);
        expect(rows.getInt("one"), 1);
        expect(rows.getString(2), "zwei");
        rows.getInt(3);
        expect(rows.wasNull(), true);
        expect(rows.next(), false);
      }
      done("connect and query");

      statement.execute("create schema jdbc_check");
      statement.execute(
          "create table jdbc_check.numbers (id bigint, name string, price decimal(10,2), day date, at timestamp, ok boolean)");
      expect(
          statement.executeUpdate(
              "insert into jdbc_check.numbers values (1, 'one', 1.50, date '2024-02-29', timestamp '2024-02-29 12:30:00', true),"
                  + " (2, null, null, null, null, null)"),
          2);
      try (ResultSet rows = statement.executeQuery("select * from jdbc_check.numbers order by id")) {
        ResultSetMetaData metadata = rows.getMetaData();
        expect(metadata.getColumnCount(), 6);
        expect(metadata.getColumnName(3), "price");
        expect(metadata.getColumnType(3), java.sql.Types.DECIMAL);
        rows.next();
        expect(rows.getBigDecimal("price"), new BigDecimal("1.50"));
        expect(rows.getDate("day").toLocalDate().toString(), "2024-02-29");
        expect(rows.getTimestamp("at").toLocalDateTime().toString(), "2024-02-29T12:30");
        expect(rows.getBoolean("ok"), true);
        rows.next();
        expect(rows.getString("name") == null, true);
      }
      done("create, insert and read back");

      DatabaseMetaData metadata = connection.getMetaData();
      expect(metadata.getDatabaseProductName(), "Tereza");
      if (!column(metadata.getCatalogs(), "TABLE_CAT").contains("tereza")) {
        throw new AssertionError("catalogs");
      }
      expect(column(metadata.getSchemas("tereza", "jdbc\\_check"), "TABLE_SCHEM"), List.of("jdbc_check"));
      expect(column(metadata.getTables("tereza", "jdbc_check", "%", null), "TABLE_NAME"), List.of("numbers"));
      expect(
          column(metadata.getColumns("tereza", "jdbc_check", "numbers", "%"), "COLUMN_NAME"),
          List.of("id", "name", "price", "day", "at", "ok"));
      expect(column(metadata.getPrimaryKeys("tereza", "jdbc_check", "numbers"), "COLUMN_NAME"), List.of());
      if (!column(metadata.getTableTypes(), "TABLE_TYPE").contains("VIEW")) {
        throw new AssertionError("table types");
      }
      metadata.getTypeInfo().close();
      expect(metadata.getIdentifierQuoteString(), "\"");
      expect(metadata.isReadOnly(), false);
      metadata.getSQLKeywords();
      metadata.getNumericFunctions();
      done("list and describe");

      try (PreparedStatement prepared =
          connection.prepareStatement("select id from jdbc_check.numbers where name = ? and id < ?")) {
        prepared.setString(1, "one");
        prepared.setLong(2, 10);
        try (ResultSet rows = prepared.executeQuery()) {
          expect(rows.next(), true);
          expect(rows.getLong(1), 1L);
        }
        prepared.setString(1, "none");
        try (ResultSet rows = prepared.executeQuery()) {
          expect(rows.next(), false);
        }
      }
      try (PreparedStatement prepared =
          connection.prepareStatement("insert into jdbc_check.numbers (id, name, day) values (?, ?, ?)")) {
        prepared.setLong(1, 3);
        prepared.setString(2, "three");
        prepared.setDate(3, Date.valueOf("2024-03-01"));
        expect(prepared.executeUpdate(), 1);
        prepared.setLong(1, 4);
        prepared.setString(2, "four");
        prepared.setDate(3, Date.valueOf("2024-03-02"));
        expect(prepared.executeUpdate(), 1);
      }
      try (ResultSet rows = statement.executeQuery("select count(*), max(day) from jdbc_check.numbers")) {
        rows.next();
        expect(rows.getLong(1), 4L);
        expect(rows.getDate(2).toLocalDate().toString(), "2024-03-02");
      }
      done("prepare with parameters, query and update");

      try {
        statement.executeQuery("select * from jdbc_check.numbrs");
        throw new AssertionError("no error");
      } catch (SQLException error) {
        if (!error.getMessage().contains("numbrs") || !error.getMessage().contains("numbers")) {
          throw error;
        }
      }
      done("errors name what is wrong");

      try (ResultSet rows = statement.executeQuery("select value from generate_series(1, " + bigRows + ")")) {
        long count = 0;
        long sum = 0;
        while (rows.next()) {
          count += 1;
          sum += rows.getLong(1);
        }
        expect(count, bigRows);
        expect(sum, bigRows * (bigRows + 1) / 2);
      }
      done("a result of " + bigRows + " rows");

      Thread canceller =
          new Thread(
              () -> {
                try {
                  Thread.sleep(1000);
                  statement.cancel();
                } catch (Exception error) {
                  throw new IllegalStateException(error);
                }
              });
      canceller.start();
      try (ResultSet rows =
          statement.executeQuery("select count(*) from generate_series(1, 100000000000) a where a.value % 7 = 3")) {
        rows.next();
        throw new AssertionError("not cancelled");
      } catch (SQLException error) {
        done("cancel: " + error.getClass().getSimpleName());
      }
      canceller.join();
    }
    Connection other = connect(address, "&catalog=tpch");
    try (Statement statement = other.createStatement()) {
      try (ResultSet rows = statement.executeQuery("select count(*) from tiny.nation")) {
        rows.next();
        expect(rows.getLong(1), 25L);
      }
      statement.execute("drop schema tereza.jdbc_check cascade");
    }
    try {
      other.close();
    } catch (SQLException error) {
      // Driver 18.3.0 closes its channel first and then asks the server to close the session of a connection with a catalog.
      expect(error.getMessage(), "Channel shutdown invoked");
    }
    done("the catalog of the connection, and drop");
    // The driver's threads would keep the process for a while.
    System.exit(0);
  }
}
