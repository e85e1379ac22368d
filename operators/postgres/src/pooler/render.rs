//! PgBouncer's configuration as text; values only.

use std::path::Path;

use mainstay_crds::postgres::pooler::PoolMode;
use mainstay_shared::names;

use super::config::{PoolerConfig, Side};
use crate::settings::{LOOKUP, POOLER_ROLE, PORT};

/// Where its files are.
#[derive(Clone, Copy, Debug)]
pub struct Folders<'a> {
    /// Of the console's socket.
    pub run: &'a Path,
    /// Of the certificate.
    pub tls: &'a Path,
}

/// Host name of the Service that it leads to, as PostgreSQL's certificates bear it.
pub fn host(config: &PoolerConfig, side: Side) -> String {
    let service = match side {
        Side::Primary => names::primary_service(&config.set),
        Side::Replicas => names::replica_service(&config.set),
    };
    format!("{service}.{}.svc", config.namespace)
}

/// `pgbouncer.ini`. No password is in it: PostgreSQL tells by [`LOOKUP`] what checks one, and what a
/// client shows in its own login is what it is logged in with there.
pub fn render(config: &PoolerConfig, side: Side, listen: &str, folders: Folders<'_>) -> String {
    let mode = match config.mode {
        PoolMode::Transaction => "transaction",
        PoolMode::Session => "session",
    };
    let host = host(config, side);
    // Replicas come, go and become primary: connections follow them soon.
    let lifetime = match side {
        Side::Primary => 3600,
        Side::Replicas => 60,
    };
    let file = |name: &str| folders.tls.join(name).display().to_string();
    let (certificate, key, ca) = (file("tls.crt"), file("tls.key"), file("ca.crt"));
    let run = folders.run.display();
    let PoolerConfig {
        pool_size,
        max_connections,
        ..
    } = config;
    format!(
        "; Rendered by Mainstay; changes belong in the resource's pooler.\n\
         [databases]\n\
         * = host={host} port={PORT}\n\
         [users]\n\
         {POOLER_ROLE} = pool_mode=transaction max_user_connections=4\n\
         [pgbouncer]\n\
         listen_addr = {listen}\n\
         listen_port = {PORT}\n\
         unix_socket_dir = {run}\n\
         unix_socket_mode = 0700\n\
         auth_type = scram-sha-256\n\
         auth_user = {POOLER_ROLE}\n\
         auth_dbname = postgres\n\
         auth_query = SELECT username, verifier FROM {LOOKUP}($1)\n\
         pool_mode = {mode}\n\
         default_pool_size = {pool_size}\n\
         max_client_conn = {max_connections}\n\
         ; What clients prepare in the protocol is prepared again where it is missing.\n\
         max_prepared_statements = 200\n\
         ; Drivers send them, and they change nothing.\n\
         ignore_startup_parameters = extra_float_digits\n\
         client_tls_sslmode = require\n\
         client_tls_cert_file = {certificate}\n\
         client_tls_key_file = {key}\n\
         ; Else the system's are loaded, which an image may lack; clients need no certificate.\n\
         client_tls_ca_file = {ca}\n\
         client_tls_protocols = secure\n\
         server_tls_sslmode = verify-full\n\
         server_tls_ca_file = {ca}\n\
         server_tls_cert_file = {certificate}\n\
         server_tls_key_file = {key}\n\
         server_tls_protocols = secure\n\
         ; A server that is away is tried again at once: a fail-over takes seconds.\n\
         server_login_retry = 0.5\n\
         server_connect_timeout = 3\n\
         server_lifetime = {lifetime}\n\
         query_wait_timeout = 120\n\
         client_login_timeout = 60\n\
         dns_max_ttl = 5\n\
         dns_nxdomain_ttl = 1\n\
         tcp_keepalive = 1\n\
         tcp_keepidle = 5\n\
         tcp_keepintvl = 3\n\
         tcp_keepcnt = 3\n\
         tcp_user_timeout = 10000\n\
         log_connections = 0\n\
         log_disconnections = 0\n\
         log_stats = 0\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(mode: PoolMode) -> PoolerConfig {
        PoolerConfig {
            set: "db".into(),
            namespace: "shop".into(),
            mode,
            pool_size: 20,
            max_connections: 1000,
            pause_seconds: 5,
        }
    }

    fn rendered(side: Side, mode: PoolMode) -> String {
        let folders = Folders {
            run: Path::new("/mainstay/run"),
            tls: Path::new("/mainstay/tls"),
        };
        render(&config(mode), side, "*", folders)
    }

    #[test]
    fn each_side_leads_to_its_service_and_verifies_it() {
        let primary = rendered(Side::Primary, PoolMode::Transaction);
        assert!(primary.contains("* = host=db-rw.shop.svc port=5432\n"));
        assert!(primary.contains("pool_mode = transaction\n"));
        assert!(primary.contains("server_tls_sslmode = verify-full\n"));
        assert!(primary.contains("client_tls_sslmode = require\n"));
        let replicas = rendered(Side::Replicas, PoolMode::Session);
        assert!(replicas.contains("* = host=db-ro.shop.svc port=5432\n"));
        assert!(replicas.contains("pool_mode = session\n"));
        assert!(replicas.contains("server_lifetime = 60\n"));
    }

    #[test]
    fn no_password_and_no_file_of_users_is_in_it() {
        let text = rendered(Side::Primary, PoolMode::Transaction);
        for word in [
            "password",
            "auth_file",
            "userlist",
            "auth_type = trust",
            "auth_type = any",
        ] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
