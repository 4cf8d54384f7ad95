//! Asks an agent for its metrics.

use anyhow::{Context, Result, bail, ensure};
use hoptrace_exposition::Exposition;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// For connection and answer together.
const LIMIT: Duration = Duration::from_secs(5);
/// Where an agent listens when nothing else is said.
const PORT: u16 = 9465;

/// An agent, by its address.
pub(super) struct Agent {
    uri: Uri,
    host: String,
    port: u16,
    token_file: Option<PathBuf>,
    runtime: Runtime,
}

impl Agent {
    /// # Errors
    /// The address is none.
    pub(super) fn new(url: &str, token_file: Option<PathBuf>) -> Result<Self> {
        let whole = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let no_address = || format!("{url:?} is no address of an agent: say http://HOST:{PORT}");
        let uri: Uri = whole.parse().with_context(no_address)?;
        ensure!(
            uri.scheme_str() == Some("http"),
            "{url:?} is not plain HTTP; for an agent with TLS, or one far away, forward a port: kubectl \
             port-forward --namespace hoptrace POD {PORT}"
        );
        let host = uri.host().with_context(no_address)?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(PORT),
            token_file,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot start the runtime")?,
            uri,
        })
    }

    /// What it exposes now.
    ///
    /// # Errors
    /// It does not answer, or with something else.
    pub(super) fn metrics(&self) -> Result<Exposition> {
        let asked = async { tokio::time::timeout(LIMIT, self.get()).await };
        let answer = self.runtime.block_on(asked);
        let text = answer
            .unwrap_or_else(|_elapsed| bail!("no answer within {} s", LIMIT.as_secs()))
            .with_context(|| {
                format!(
                    "cannot get the metrics of the agent at {}:{}; does it run there?",
                    self.host, self.port
                )
            })?;
        let exposition = Exposition::parse(&text);
        ensure!(
            exposition
                .iter()
                .any(|series| series.name == "hoptrace_build_info"),
            "what answers at {}:{} is no agent of hoptrace",
            self.host,
            self.port
        );
        Ok(exposition)
    }

    async fn get(&self) -> Result<String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let authority = self.uri.authority().map_or("", |found| found.as_str());
        let mut request = Request::get("/metrics").header(HOST, authority);
        if let Some(file) = &self.token_file {
            // Tokens of service accounts are renewed.
            let token = fs::read_to_string(file)
                .with_context(|| format!("cannot read the token in {}", file.display()))?;
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request.body(Empty::<Bytes>::new())?;
        // It ends with the answer; its error is the answer's.
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        if status == 401 || status == 403 {
            bail!("it answers {status}: show a token with --token-file");
        }
        ensure!(status == 200, "it answers {status}");
        let body = answer.into_body().collect().await?.to_bytes();
        drop(sender);
        let _closed = connection.await;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}
