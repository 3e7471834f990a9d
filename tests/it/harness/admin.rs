//! Calls of the admin plane.

use std::{fs, path::PathBuf};

use serde_json::json;

use super::{Answer, Server, Site, Wire, client, request};

/// A call as a principal of the site, on a connection of its own.
pub(crate) fn admin(server: &Server, site: &Site, who: &str, method: &str, path: &str) -> Answer {
    send(server, site, who, &request(method, path, "", b""))
}

/// A change, with its reason.
pub(crate) fn change(server: &Server, site: &Site, who: &str, path: &str, reason: &str) -> Answer {
    let body = json!({"reason": reason}).to_string();
    change_with(server, site, who, path, &body)
}

/// A change with any body.
pub(crate) fn change_with(
    server: &Server,
    site: &Site,
    who: &str,
    path: &str,
    body: &str,
) -> Answer {
    let headers = "Content-Type: application/json\r\n";
    send(
        server,
        site,
        who,
        &request("POST", path, headers, body.as_bytes()),
    )
}

fn send(server: &Server, site: &Site, who: &str, bytes: &[u8]) -> Answer {
    let mut wire = Wire::admin(server, &client(site, who));
    wire.send(bytes);
    wire.answer()
}

/// Writes a principal's certificate and key for programs: `clients/NAME.{pem,key}`.
pub(crate) fn identity_files(site: &Site, who: &str) -> PathBuf {
    let directory = site.path().join("clients");
    fs::create_dir_all(&directory).unwrap();
    site.write_identity(&directory, who);
    directory.join(who)
}
