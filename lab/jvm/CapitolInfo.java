import com.zaxxer.hikari.HikariDataSource;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;
import org.springframework.beans.factory.support.RootBeanDefinition;
import org.springframework.dao.DataAccessException;
import org.springframework.http.HttpStatus;
import org.springframework.http.MediaType;
import org.springframework.http.ResponseEntity;
import org.springframework.http.converter.HttpMessageNotReadableException;
import org.springframework.http.converter.StringHttpMessageConverter;
import org.springframework.http.converter.json.MappingJackson2HttpMessageConverter;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.core.RowMapper;
import org.springframework.web.bind.annotation.ExceptionHandler;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RequestMapping;
import org.springframework.web.bind.annotation.RequestMethod;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.context.support.GenericWebApplicationContext;
import org.springframework.web.servlet.DispatcherServlet;
import org.springframework.web.servlet.mvc.method.annotation.ExceptionHandlerExceptionResolver;
import org.springframework.web.servlet.mvc.method.annotation.RequestMappingHandlerAdapter;
import org.springframework.web.servlet.mvc.method.annotation.RequestMappingHandlerMapping;

/**
 * capitol-info as the article had it: Spring MVC in a Tomcat, with PostgreSQL. The routes and the
 * answers are those of the lab's other capitol-info.
 *
 * <p>Arguments: port, JDBC URL, working directory, file of rows ("country TAB capital").
 *
 * <p>The beans are made here and by hand. Configuration classes would need subclasses at run time,
 * and Debian's Spring 4.3 makes those with a library that does not know Java 17.
 */
public final class CapitolInfo {
  private static final int PAGE = 50;
  private static final String TABLE =
      "CREATE TABLE IF NOT EXISTS capitol"
          + " (id bigserial PRIMARY KEY, country text NOT NULL, city text NOT NULL)";

  public static void main(String[] arguments) throws Exception {
    int port = Integer.parseInt(arguments[0]);
    Path work = Paths.get(arguments[2]);
    HikariDataSource source = new HikariDataSource();
    source.setJdbcUrl(arguments[1]);
    source.setUsername("capitol");
    source.setMaximumPoolSize(10);
    // The database starts at the same time.
    source.setInitializationFailTimeout(20_000);
    JdbcTemplate database = new JdbcTemplate(source);
    fill(database, Paths.get(arguments[3]));

    GenericWebApplicationContext beans = new GenericWebApplicationContext();
    beans.getBeanFactory().registerSingleton("capitols", new Capitols(database));
    beans.registerBeanDefinition(
        "mapping", new RootBeanDefinition(RequestMappingHandlerMapping.class));
    beans.registerBeanDefinition("adapter", withConverters(RequestMappingHandlerAdapter.class));
    beans.registerBeanDefinition("errors", withConverters(ExceptionHandlerExceptionResolver.class));

    Tomcat tomcat = new Tomcat();
    tomcat.setBaseDir(work.toString());
    tomcat.setPort(port);
    Connector connector = tomcat.getConnector();
    // Connections last as long as their clients want: what is measured is requests.
    connector.setProperty("maxKeepAliveRequests", "-1");
    connector.setProperty("keepAliveTimeout", "600000");
    Context root = tomcat.addContext("", work.toString());
    Tomcat.addServlet(root, "spring", new DispatcherServlet(beans)).setLoadOnStartup(1);
    root.addServletMappingDecoded("/", "spring");
    tomcat.start();
    System.err.println("capitol-info listens on port " + port);
    tomcat.getServer().await();
  }

  private static RootBeanDefinition withConverters(Class<?> bean) {
    MappingJackson2HttpMessageConverter json = new MappingJackson2HttpMessageConverter();
    // A body is read whatever its content type says.
    json.setSupportedMediaTypes(Arrays.asList(MediaType.APPLICATION_JSON_UTF8, MediaType.ALL));
    RootBeanDefinition definition = new RootBeanDefinition(bean);
    definition
        .getPropertyValues()
        .add(
            "messageConverters",
            Arrays.asList(new StringHttpMessageConverter(StandardCharsets.UTF_8), json));
    return definition;
  }

  private static void fill(JdbcTemplate database, Path rows) throws Exception {
    database.execute(TABLE);
    if (database.queryForObject("SELECT count(*) FROM capitol", Long.class) > 0) {
      return;
    }
    for (String row : Files.readAllLines(rows, StandardCharsets.UTF_8)) {
      String[] fields = row.split("\t");
      database.update("INSERT INTO capitol (country, city) VALUES (?, ?)", fields[0], fields[1]);
    }
  }

  /** A row. */
  public static final class Capitol {
    public long id;
    public String country;
    public String city;

    static Capitol of(long id, String country, String city) {
      Capitol capitol = new Capitol();
      capitol.id = id;
      capitol.country = country;
      capitol.city = city;
      return capitol;
    }
  }

  /** What a client sends. */
  public static final class NewCapitol {
    public String country;
    public String city;

    boolean isWhole() {
      return country != null && city != null && !country.isEmpty() && !city.isEmpty();
    }
  }

  /** The routes. */
  @RestController
  public static class Capitols {
    private static final RowMapper<Capitol> ROW =
        (row, number) ->
            Capitol.of(row.getLong("id"), row.getString("country"), row.getString("city"));

    private final JdbcTemplate database;

    Capitols(JdbcTemplate database) {
      this.database = database;
    }

    @RequestMapping(value = "/capitols", method = RequestMethod.GET)
    public List<Capitol> list(
        @RequestParam(name = "limit", defaultValue = "" + PAGE) int limit,
        @RequestParam(name = "after", defaultValue = "0") long after) {
      return database.query(
          "SELECT id, country, city FROM capitol WHERE id > ? ORDER BY id LIMIT ?",
          ROW,
          after,
          Math.max(0, Math.min(limit, PAGE)));
    }

    @RequestMapping(value = "/capitols/{id}", method = RequestMethod.GET)
    public ResponseEntity<?> read(@PathVariable("id") long id) {
      List<Capitol> found =
          database.query("SELECT id, country, city FROM capitol WHERE id = ?", ROW, id);
      return found.isEmpty() ? missing(id) : ResponseEntity.ok(found.get(0));
    }

    @RequestMapping(value = "/capitols", method = RequestMethod.POST)
    public ResponseEntity<?> create(@RequestBody NewCapitol capitol) {
      if (!capitol.isWhole()) {
        return refused("country and city must not be empty");
      }
      Long id =
          database.queryForObject(
              "INSERT INTO capitol (country, city) VALUES (?, ?) RETURNING id",
              Long.class,
              capitol.country,
              capitol.city);
      return ResponseEntity.status(HttpStatus.CREATED)
          .body(Capitol.of(id, capitol.country, capitol.city));
    }

    @RequestMapping(value = "/capitols/{id}", method = RequestMethod.POST)
    public ResponseEntity<?> update(
        @PathVariable("id") long id, @RequestBody NewCapitol capitol) {
      if (!capitol.isWhole()) {
        return refused("country and city must not be empty");
      }
      int changed =
          database.update(
              "UPDATE capitol SET country = ?, city = ? WHERE id = ?",
              capitol.country,
              capitol.city,
              id);
      return changed == 0
          ? missing(id)
          : ResponseEntity.ok(Capitol.of(id, capitol.country, capitol.city));
    }

    @RequestMapping(value = "/healthz", method = RequestMethod.GET)
    public String healthy() {
      return "ok\n";
    }

    @ExceptionHandler(HttpMessageNotReadableException.class)
    public ResponseEntity<Map<String, String>> unreadable() {
      return refused("the body has to be JSON like {\"country\": \"France\", \"city\": \"Paris\"}");
    }

    @ExceptionHandler(DataAccessException.class)
    public ResponseEntity<Map<String, String>> broken(DataAccessException error) {
      return error(HttpStatus.INTERNAL_SERVER_ERROR, "the database: " + error.getMessage());
    }

    private static ResponseEntity<Map<String, String>> missing(long id) {
      return error(HttpStatus.NOT_FOUND, "there is no capitol " + id);
    }

    private static ResponseEntity<Map<String, String>> refused(String why) {
      return error(HttpStatus.BAD_REQUEST, why);
    }

    private static ResponseEntity<Map<String, String>> error(HttpStatus status, String why) {
      return ResponseEntity.status(status).body(Collections.singletonMap("error", why));
    }
  }
}
