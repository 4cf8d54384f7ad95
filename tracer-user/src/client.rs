//! Asks an agent: for its metrics, or for requests as they come.

use anyhow::{Context, Result, bail, ensure};
use hoptrace_exposition::Exposition;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HOST, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::http::BEAT;

/// For connection and answer together.
const LIMIT: Duration = Duration::from_secs(5);
/// Where an agent listens when nothing else is said.
const PORT: u16 = 9465;

/// An agent that traces this one's pod takes what it asks for a probe.
const MYSELF: &str = concat!("hoptrace/", env!("CARGO_PKG_VERSION"));

/// An agent, by its address.
pub(crate) struct Agent {
    uri: Uri,
    host: String,
    port: u16,
    token_file: Option<PathBuf>,
    runtime: Runtime,
}

impl Agent {
    /// # Errors
    /// The address is none.
    pub(crate) fn new(url: &str, token_file: Option<PathBuf>) -> Result<Self> {
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
    pub(crate) fn metrics(&self) -> Result<Exposition> {
        let get = async {
            let answer = self.ask("/metrics").await?;
            let status = answer.status();
            ensure!(status == 200, "it answers {status}");
            let body = answer.into_body().collect().await?.to_bytes();
            Ok(String::from_utf8_lossy(&body).into_owned())
        };
        let asked = async { tokio::time::timeout(LIMIT, get).await };
        let answer = self.runtime.block_on(asked);
        let text = answer
            .unwrap_or_else(|_elapsed| bail!("no answer within {} s", LIMIT.as_secs()))
            .with_context(|| self.unanswered("the metrics"))?;
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

    /// Hands each line of what it answers for `path` to `take`, until it is over, `take` has enough, or
    /// `until` is there. Empty lines are left out.
    ///
    /// # Errors
    /// It does not answer, does not know the path, or falls silent; what `take` complains of.
    pub(crate) fn lines(
        &self,
        path: &str,
        until: Option<Instant>,
        mut take: impl FnMut(&str) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let listen = async {
            let answer = tokio::time::timeout(LIMIT, self.ask(path)).await;
            let answer = answer
                .unwrap_or_else(|_elapsed| bail!("no answer within {} s", LIMIT.as_secs()))
                .with_context(|| self.unanswered("requests"))?;
            let mut body = self.accepted(answer).await?;
            let mut rest = Vec::new();
            // It shows a sign of life more often than that.
            while let Some(frame) = tokio::time::timeout(2 * BEAT + LIMIT, body.frame())
                .await
                .with_context(|| format!("the agent at {} fell silent", self.place()))?
            {
                let frame =
                    frame.with_context(|| format!("the agent at {} went away", self.place()))?;
                rest.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line);
                    if !line.trim().is_empty() && take(line.trim())?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        };
        let limited = async {
            match until {
                Some(until) => tokio::time::timeout_at(until.into(), listen)
                    .await
                    .unwrap_or(Ok(ControlFlow::Break(()))),
                None => listen.await,
            }
        };
        self.runtime.block_on(limited)
    }

    fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn unanswered(&self, what: &str) -> String {
        format!(
            "cannot get {what} of the agent at {}; does it run there?",
            self.place()
        )
    }

    /// The body of an answer that is the one asked for.
    async fn accepted(&self, answer: Response<Incoming>) -> Result<Incoming> {
        let status = answer.status();
        if status == 200 {
            return Ok(answer.into_body());
        }
        let body = answer.into_body().collect().await?.to_bytes();
        let said = String::from_utf8_lossy(&body);
        let said = said.trim();
        ensure!(
            status != 404 || said.contains("--ui"),
            "the agent at {} is older than single requests: bring it up to date, or look at it with \
             `hoptrace top`",
            self.place()
        );
        bail!("the agent at {} answers {status}: {said}", self.place())
    }

    /// Sends a request; what it answers is to be read yet.
    async fn ask(&self, path: &str) -> Result<Response<Incoming>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let authority = self.uri.authority().map_or("", |found| found.as_str());
        let mut request = Request::get(path)
            .header(HOST, authority)
            .header(USER_AGENT, MYSELF);
        if let Some(file) = &self.token_file {
            // Tokens of service accounts are renewed.
            let token = fs::read_to_string(file)
                .with_context(|| format!("cannot read the token in {}", file.display()))?;
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request.body(Empty::<Bytes>::new())?;
        // It ends with the answer; its error is the answer's.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        if status == 401 || status == 403 {
            bail!("it answers {status}: show a token with --token-file");
        }
        Ok(answer)
    }
}
