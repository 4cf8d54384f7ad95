//! NGINX of capitol-client: a page, and a gateway to capitol-info.

use std::path::Path;

use crate::topology::{CLIENT_PORT, INFO_PORT, Pod};

/// What its configuration depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gateway<'a> {
    /// Its own directory, where it may write.
    pub(crate) dir: &'a Path,
    /// A file, or `stderr`.
    pub(crate) error_log: &'a str,
    /// Address and port of capitol-info.
    pub(crate) info: &'a str,
    /// Listens on IPv6 as well.
    pub(crate) ipv6: bool,
}

impl Gateway<'_> {
    /// The whole configuration.
    pub(crate) fn config(&self) -> String {
        let Self {
            error_log,
            info,
            ipv6,
            ..
        } = *self;
        let dir = self.dir.display();
        let name = Pod::Info.workload();
        let listen_v6 = if ipv6 {
            format!("listen [::]:{CLIENT_PORT};")
        } else {
            String::new()
        };
        format!(
            r#"worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
error_log {error_log};
events {{ worker_connections 4096; }}
http {{
  access_log off;
  default_type text/html;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  upstream {name} {{
    server {info};
    keepalive 64;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }}
  server {{
    listen {CLIENT_PORT};
    {listen_v6}
    location / {{
      return 200 "<!doctype html><title>Capitols</title><h1>Capitols of the world</h1>\n";
    }}
    location /api/ {{
      proxy_pass http://{name}/;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host {name}:{INFO_PORT};
      proxy_set_header X-Request-Id $http_x_request_id;
      proxy_set_header Traceparent $http_traceparent;
    }}
  }}
}}
"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_leads_where_it_is_told() {
        let gateway = Gateway {
            dir: Path::new("/d"),
            error_log: "stderr",
            info: "10.96.0.11:8080",
            ipv6: false,
        };
        let text = gateway.config();
        assert!(text.contains("server 10.96.0.11:8080;"));
        assert!(text.contains("pid /d/nginx.pid;") && !text.contains("[::]"));
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
