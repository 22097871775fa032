import java.sql.*;

/** Asks a server with executors through JDBC, and which lane its question took. */
public class Cluster {
    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:arrow-flight-sql://" + arguments[0] + "?useEncryption=false";
        try (Connection connection = DriverManager.getConnection(url); Statement statement = connection.createStatement()) {
            statement.execute("SET tereza.mode = 'cluster'");
            String join = "SELECT count(*) FROM tpch.tiny.lineitem JOIN tpch.tiny.orders ON l_orderkey = o_orderkey";
            try (ResultSet rows = statement.executeQuery(join)) {
                rows.next();
                System.out.println(rows.getLong(1));
            }
            String lanes = "SELECT DISTINCT lane FROM system.runtime.queries WHERE query LIKE 'SELECT count(*) FROM tpch%'";
            try (ResultSet rows = statement.executeQuery(lanes)) {
                while (rows.next()) {
                    System.out.println(rows.getString(1));
                }
            }
        }
    }
}
