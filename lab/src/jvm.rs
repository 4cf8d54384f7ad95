//! The article's own `capitol-info`: Spring MVC in a Tomcat, with PostgreSQL, all from Debian.
//!
//! Nothing is built beforehand: the one Java file takes less than a second to compile, and the
//! database of a lab lives and dies with it. Both run in the app's container, as in the article's
//! pod; the database listens on loopback there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host;
use crate::seed::CAPITOLS;

use crate::topology::INFO_PORT;

const SOURCE: &str = include_str!("../jvm/CapitolInfo.java");
const CLASS: &str = "CapitolInfo";
/// Debian's place for libraries; their versions stand in their names only beside these.
const LIBRARIES: &str = "/usr/share/java";
/// What the service and its libraries load. Debian calls Spring 4.3 "spring3".
const JARS: [&str; 26] = [
    "HikariCP",
    "commons-logging",
    "jackson-annotations",
    "jackson-core",
    "jackson-databind",
    "postgresql",
    "slf4j-api",
    "spring3-aop",
    "spring3-beans",
    "spring3-context",
    "spring3-core",
    "spring3-expression",
    "spring3-jdbc",
    "spring3-transaction",
    "spring3-web",
    "spring3-web.servlet",
    "tomcat9-annotations-api",
    "tomcat9-api",
    "tomcat9-catalina",
    "tomcat9-coyote",
    "tomcat9-jaspic-api",
    "tomcat9-jni",
    "tomcat9-juli",
    "tomcat9-servlet-api",
    "tomcat9-util",
    "tomcat9-util-scan",
];
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";
/// The user that Debian's package makes; the database does not run as root.
const DATABASE_USER: &str = "postgres";
const DATABASE_PORT: u16 = 5432;

/// What of it is not installed here; `None` when all is.
#[must_use]
pub fn missing() -> Option<String> {
    let programs = ["java", "javac", "setpriv", "unshare"];
    let mut absent: Vec<_> = programs
        .into_iter()
        .filter(|name| host::program(name).is_err())
        .map(str::to_owned)
        .collect();
    absent.extend(
        JARS.iter()
            .map(|name| jar(name))
            .filter(|path| !path.is_file())
            .map(shown),
    );
    let programs = ["initdb", "postgres"].map(|name| Path::new(POSTGRES).join(name));
    absent.extend(
        programs
            .into_iter()
            .filter(|path| !host::is_executable(path))
            .map(shown),
    );
    (!absent.is_empty()).then(|| absent.join(", "))
}

/// # Errors
/// Something is not installed.
pub(crate) fn check() -> Result<()> {
    match missing() {
        None => Ok(()),
        Some(missing) => bail!(
            "the flavour jvm needs what is not here ({missing}): run `cargo xtask setup --jvm`"
        ),
    }
}

fn shown(path: PathBuf) -> String {
    path.display().to_string()
}

fn jar(name: &str) -> PathBuf {
    Path::new(LIBRARIES).join(format!("{name}.jar"))
}

fn class_path() -> String {
    let paths: Vec<_> = JARS.iter().map(|name| shown(jar(name))).collect();
    paths.join(":")
}

/// Compiles the service below the pod's directory, and says how to start it.
///
/// # Errors
/// It does not compile, or a file cannot be written.
pub(crate) fn app(own: &Path) -> Result<Command> {
    let (source, classes) = (own.join(format!("{CLASS}.java")), own.join("classes"));
    let rows: String = CAPITOLS
        .iter()
        .map(|(country, city)| format!("{country}\t{city}\n"))
        .collect();
    let writing = || format!("cannot write below {}", own.display());
    fs::write(&source, SOURCE).with_context(writing)?;
    fs::write(own.join("capitols.tsv"), rows).with_context(writing)?;
    fs::create_dir_all(&classes).with_context(writing)?;
    let mut compile = Command::new(host::program("javac")?);
    // Debian's Spring reads class files of Java 8 at most.
    compile.args(["--release", "8", "-Xlint:-options", "-encoding", "UTF-8"]);
    compile.args(["-cp", &class_path()]).arg("-d").arg(&classes);
    succeeds(compile.arg(&source), "compiling capitol-info")?;
    let mut command = Command::new(host::program("java")?);
    command
        .args(["-Xmx192m", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8"])
        // Its library for proxies reaches into the class loader.
        .args(["--add-opens", "java.base/java.lang=ALL-UNNAMED", "-cp"])
        .arg(format!("{}:{}", classes.display(), class_path()))
        .args([CLASS, &INFO_PORT.to_string()])
        .arg(format!(
            "jdbc:postgresql://127.0.0.1:{DATABASE_PORT}/postgres"
        ))
        .arg(own)
        .arg(own.join("capitols.tsv"))
        .current_dir(own);
    Ok(command)
}

/// Makes an empty database below the pod's directory, and says how to start it, as root.
///
/// # Errors
/// It cannot be made.
pub(crate) fn database(own: &Path) -> Result<Command> {
    let home = own.join("database");
    let making = || format!("cannot make {}", home.display());
    fs::create_dir_all(&home).with_context(making)?;
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).with_context(making)?;
    let (user, group) = database_user()?;
    chown(&home, Some(user), Some(group)).with_context(making)?;
    let data = home.join("data");
    let mut make = as_database_user("initdb", &home)?;
    make.arg("--pgdata").arg(&data);
    make.args(["--username=capitol", "--auth=trust", "--encoding=UTF8"]);
    make.args(["--no-locale", "--no-sync", "--no-instructions"]);
    succeeds(&mut make, "making the database")?;
    let mut command = as_database_user("postgres", &home)?;
    command.arg("-D").arg(&data);
    let port = format!("port={DATABASE_PORT}");
    for setting in [
        "listen_addresses=127.0.0.1",
        &port,
        "unix_socket_directories=",
        "max_connections=20",
        "shared_buffers=16MB",
        // Files below its own directory: killed, it leaves nothing in /dev/shm.
        "dynamic_shared_memory_type=mmap",
        // Nobody needs the rows after a power cut.
        "fsync=off",
    ] {
        command.args(["-c", setting]);
    }
    Ok(command)
}

/// A program of PostgreSQL in an IPC namespace of its own: the shared memory by which it finds out
/// about a second server goes with the namespace, also when it is killed.
fn as_database_user(program: &str, home: &Path) -> Result<Command> {
    let mut command = Command::new(host::program("unshare")?);
    command.args(["--ipc", "--"]).arg(host::program("setpriv")?);
    command.arg(format!("--reuid={DATABASE_USER}"));
    command.arg(format!("--regid={DATABASE_USER}"));
    command.args(["--clear-groups", "--"]);
    command.arg(Path::new(POSTGRES).join(program));
    command.current_dir(home);
    Ok(command)
}

/// User and group of [`DATABASE_USER`].
fn database_user() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let ids = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let mut ids = fields.skip(1).map(str::parse::<u32>);
        let ids = ids.next()?.ok().zip(ids.next()?.ok())?;
        (name == DATABASE_USER).then_some(ids)
    });
    ids.with_context(|| format!("there is no user {DATABASE_USER}: run `cargo xtask setup --jvm`"))
}

fn succeeds(command: &mut Command, what: &str) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("{what}: cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{what} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
