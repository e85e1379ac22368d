//! How poolers learn what checks a client's password: a role of ours and a function for it. I/O.

use tokio_postgres::Client;

use super::{SqlError, ensure_role, refused};
use crate::settings::POOLER_ROLE;

/// What the function says of a role that may log in: its SCRAM verifier. Nothing of superusers, of roles
/// that replicate, of PostgreSQL's and of our own, nor of one whose time is over.
const BODY: &str = "select rolname::text, rolpassword from pg_catalog.pg_authid
 where rolname = $1 and rolcanlogin and not rolsuper and not rolreplication
   and rolname !~ '^(pg_|mainstay_)' and rolpassword ~ '^SCRAM-SHA-256[$]'
   and (rolvaliduntil is null or rolvaliduntil > now())";

/// The role and the function as they should be. Repeated, it changes nothing.
pub(super) async fn ensure(client: &Client) -> Result<(), SqlError> {
    let what = refused("let poolers look up who may log in");
    ensure_role(client, POOLER_ROLE, "LOGIN CONNECTION LIMIT 100").await?;
    let there = client
        .query_one(
            "select exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
               where n.nspname = 'mainstay' and p.proname = 'lookup' and p.prosrc = $1
               and has_function_privilege($2, p.oid, 'execute') and has_schema_privilege($2, n.oid, 'usage'))",
            &[&BODY, &POOLER_ROLE],
        )
        .await
        .map_err(&what)?;
    if there.get(0) {
        return Ok(());
    }
    // One statement, so one transaction: nobody else ever may execute it.
    let make = format!(
        "create schema if not exists mainstay;
         drop function if exists mainstay.lookup(text);
         create function mainstay.lookup(name text) returns table (username text, verifier text)
           language sql stable strict security definer set search_path = pg_catalog, pg_temp as $body${BODY}$body$;
         revoke all on function mainstay.lookup(text) from public;
         grant usage on schema mainstay to {POOLER_ROLE};
         grant execute on function mainstay.lookup(text) to {POOLER_ROLE}"
    );
    client.batch_execute(&make).await.map_err(what)
}

/// Neither of them, where there is no pooler any more.
pub(super) async fn remove(client: &Client) -> Result<(), SqlError> {
    let what = refused("forget poolers");
    let there = client
        .query_one(
            "select exists (select from pg_roles where rolname = $1)",
            &[&POOLER_ROLE],
        )
        .await
        .map_err(&what)?;
    if !there.get::<_, bool>(0) {
        return Ok(());
    }
    let forget = format!(
        "drop function if exists mainstay.lookup(text);
         drop schema if exists mainstay;
         drop role {POOLER_ROLE}"
    );
    client.batch_execute(&forget).await.map_err(what)
}
