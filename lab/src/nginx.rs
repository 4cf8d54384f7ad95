//! NGINX of capitol-client: a page, and a gateway to capitol-info.

use std::net::SocketAddr;
use std::path::Path;

use crate::topology::{CLIENT_PORT, INFO_PORT, Pod};

/// Its whole configuration; `dir` is its own, where it may write.
pub(crate) fn config(dir: &Path, info: SocketAddr, ipv6: bool) -> String {
    let dir = dir.display();
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
error_log {dir}/error.log;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_leads_where_it_is_told() {
        let text = config(Path::new("/d"), "10.96.0.11:8080".parse().unwrap(), false);
        assert!(text.contains("server 10.96.0.11:8080;"));
        assert!(text.contains("pid /d/nginx.pid;") && !text.contains("[::]"));
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
