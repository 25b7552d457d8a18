//! The REST API of a primary that is not there, for measuring the server: `rest_alone [HOST:PORT]`.

#[allow(dead_code)]
#[path = "../tests/api/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "../tests/api/server.rs"]
mod server;

use tamada::config::HostPort;
use tamada::core::policy::Mode;

fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8008".into());
    let (host, port) = address.rsplit_once(':').expect("HOST:PORT");
    let mut settings = fixture::open_settings();
    settings.listen = HostPort { host: host.into(), port: port.parse().expect("a port") };
    let mut harness = server::Harness::start(settings, Mode::Cluster, fixture::primary());
    println!("GET /primary on {}", harness.address);
    // Nobody answers what is asked of the loop; the end comes with the process.
    while harness.requests.blocking_recv().is_some() {}
}
