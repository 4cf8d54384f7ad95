//! The commands of a lab's containers, and their files.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::certs::CertFiles;
use crate::envoy::{Endpoints, Sidecar};
use crate::nginx::Gateway;
use crate::options::{Flavour, LabOptions, Worker};
use crate::programs::{CHAIN, WIRE};
use crate::spawn::{self, APP_USER, SIDECAR_USER};
use crate::topology::{
    CLIENT_PORT, Container, DATABASE_PORT, GATEWAY_V4, INFO_PORT, Mode, NAMESPACE, Pod,
};
use crate::{host, identity, jvm, netns};

/// How soon an entry of the access log is in its file.
const FLUSH_MS: u64 = 50;

/// Where a lab's files are.
#[derive(Clone, Debug)]
pub(crate) struct Files(pub(crate) PathBuf);

impl Files {
    pub(crate) fn identity(&self) -> PathBuf {
        self.0.join("identity.toml")
    }

    pub(crate) fn access_log(&self, pod: Pod) -> PathBuf {
        self.0.join(format!("{}-access.log", pod.short()))
    }

    pub(crate) fn log(&self, pod: Pod, container: Container) -> PathBuf {
        self.0
            .join(format!("{}-{}.log", pod.short(), container.name()))
    }

    fn certs(&self) -> PathBuf {
        self.0.join("certs")
    }

    /// Where the app of a pod may write.
    fn own(&self, pod: Pod) -> PathBuf {
        self.0.join(pod.short())
    }

    /// Makes the directories, and what all pods share.
    pub(crate) fn create(&self, options: &LabOptions) -> Result<()> {
        fs::create_dir_all(&self.0).with_context(|| format!("cannot make {}", self.0.display()))?;
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot open {} to others", self.0.display()))?;
        host::need_open_path(&self.0)?;
        for pod in [Pod::Client, Pod::Info] {
            let own = self.own(pod);
            fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
            give(&own, APP_USER)?;
        }
        if options.mode == Mode::Mtls {
            crate::certs::create(&self.certs())?;
        }
        write(&self.identity(), &identity::toml(&options.name))
    }
}

/// The command of a pod's app; the load generator is started by those who want load.
pub(crate) fn app(
    files: &Files,
    options: &LabOptions,
    pod: Pod,
    info: SocketAddr,
) -> Result<Option<Command>> {
    let own = files.own(pod);
    let mut command = match pod {
        Pod::Load => return Ok(None),
        Pod::Client | Pod::Info if matches!(options.flavour, Flavour::Chain(_)) => {
            chain(&own, options, pod, info)?
        }
        Pod::Client => {
            let config = files.0.join("nginx.conf");
            let gateway = Gateway {
                dir: &own,
                error_log: &own.join("error.log").display().to_string(),
                info: &info.to_string(),
                ipv6: netns::has_ipv6(),
            };
            write(&config, &gateway.config())?;
            let mut command = Command::new(host::program("nginx")?);
            // The log named here holds from the start; the one built in is root's.
            command.arg("-c").arg(&config).arg("-p").arg(&own);
            command.arg("-e").arg(own.join("error.log"));
            command
        }
        Pod::Info if options.flavour == Flavour::Jvm => jvm::app(&own)?,
        Pod::Info if options.flavour == Flavour::Wire => {
            let mut command = spawn::from_own_directory(&options.bin_dir.join(WIRE))?;
            let any = if netns::has_ipv6() { "[::]" } else { "0.0.0.0" };
            command.arg("serve").arg("--log").arg(own.join("wire.log"));
            for port in [INFO_PORT, INFO_PORT + 1] {
                command.arg("--http").arg(format!("{any}:{port}"));
            }
            command.arg("--raw").arg(format!("{any}:9000"));
            command
        }
        Pod::Info => {
            let mut command = spawn::from_own_directory(&options.bin_dir.join("capitol-info"))?;
            let any = if netns::has_ipv6() { "[::]" } else { "0.0.0.0" };
            command.arg("--listen").arg(format!("{any}:{INFO_PORT}"));
            command.arg("--database").arg(own.join("capitols.sqlite"));
            command
        }
    };
    spawn::log_to(&mut command, &files.log(pod, Container::App))?;
    Ok(Some(command))
}

/// A service of a chain.
fn chain(own: &Path, options: &LabOptions, pod: Pod, info: SocketAddr) -> Result<Command> {
    let mut command = spawn::from_own_directory(&options.bin_dir.join(CHAIN))?;
    let (name, port, next, worker) = match (pod, options.flavour) {
        (Pod::Client, Flavour::Chain(worker)) => {
            ("client", CLIENT_PORT, format!("http://{info}"), worker)
        }
        _ => {
            let next = format!("tcp://{GATEWAY_V4}:{DATABASE_PORT}");
            ("server", INFO_PORT, next, Worker::Threads)
        }
    };
    command.args(["serve", "--name", name, "--next", &next]);
    command.args(["--how", worker.as_str()]);
    command.arg("--listen").arg(format!("0.0.0.0:{port}"));
    command.arg("--log").arg(own.join("chain.log"));
    Ok(command)
}

/// The database beside a pod's app, made anew; started as root, it gives that up by itself.
pub(crate) fn database(files: &Files, options: &LabOptions, pod: Pod) -> Result<Option<Command>> {
    if pod != Pod::Info || options.flavour != Flavour::Jvm {
        return Ok(None);
    }
    let mut command = jvm::database(&files.own(pod))?;
    spawn::log_to(&mut command, &files.0.join("info-database.log"))?;
    Ok(Some(command))
}

/// The command of a pod's Envoy.
pub(crate) fn sidecar(
    files: &Files,
    options: &LabOptions,
    pod: Pod,
    ipv6: bool,
) -> Result<Command> {
    let access_log = files.access_log(pod);
    File::create(&access_log).with_context(|| format!("cannot make {}", access_log.display()))?;
    give(&access_log, SIDECAR_USER)?;
    let sidecar = Sidecar {
        pod,
        namespace: NAMESPACE,
        endpoints: Endpoints::OfLab,
        certs: (options.mode == Mode::Mtls).then(|| CertFiles::of(&files.certs(), pod)),
        access_log: options.access_log.then_some(access_log),
        inbound_fault: options.inbound_fault.filter(|_| pod == Pod::Info),
        outbound_fault: options.outbound_fault.filter(|_| pod != Pod::Info),
        ipv6,
        convention: options.convention,
    };
    let config = files.0.join(format!("{}-envoy.json", pod.short()));
    let mut bootstrap = sidecar.bootstrap();
    if let Some(patch) = options.patch {
        patch(pod, &mut bootstrap);
    }
    write(&config, &format!("{bootstrap:#}\n"))?;
    let mut command = spawn::from_own_directory(&options.envoy)?;
    command.arg("--config-path").arg(&config);
    let (workers, flush) = (options.workers.to_string(), FLUSH_MS.to_string());
    command.args(["--concurrency", &workers, "--disable-hot-restart"]);
    command.args(["--file-flush-interval-msec", &flush]);
    command.args(["--drain-time-s", "1", "--log-level", "warning"]);
    spawn::log_to(&mut command, &files.log(pod, Container::Sidecar))?;
    Ok(command)
}

/// The user a container runs as.
pub(crate) fn user(container: Container) -> u32 {
    match container {
        Container::App => APP_USER,
        Container::Sidecar => SIDECAR_USER,
    }
}

fn give(path: &Path, user: u32) -> Result<()> {
    chown(path, Some(user), Some(user))
        .with_context(|| format!("cannot give {} to user {user}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
