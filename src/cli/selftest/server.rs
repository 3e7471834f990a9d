//! The server under test. It is what `vitalgate serve` is, but for two things: it hands the
//! self-test that started it a view of its own memory, before it makes itself unreadable, and it
//! listens on loopback only, to throw-away identities.
//!
//! The view is passed over a Unix socket that the process was born with as its standard input.
//! Without that socket this does not start, and no server started otherwise has any of it.

use std::{
    fs::File,
    io::{self, IoSlice, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;
use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    process::{Signal, set_parent_process_death_signal},
};
use serde::{Deserialize, Serialize};
use vitalgate::config::{Budgets, Config};

use super::super::{Failure, serve};

/// Name of the configuration in a state directory.
const CONFIGURATION: &str = "vitalgate.toml";

#[derive(Debug, Args)]
pub(crate) struct ServerArguments {
    /// A state directory as `dev` makes it: identities, certificates, audit log.
    #[arg(long)]
    state: PathBuf,
    /// What to serve and how; what the state directory says when left out.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Where the server can be reached, one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) data: std::net::SocketAddr,
    pub(super) admin: Option<std::net::SocketAddr>,
}

pub(super) fn run(arguments: &ServerArguments) -> Result<(), Failure> {
    let mut socket = inherited_socket().map_err(Failure::Usage)?;
    // The self-test may be killed; a server must not outlive it.
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(Failure::environment)?;
    hand_over(&socket)
        .context("handing over the view of memory")
        .map_err(Failure::Environment)?;
    serve::log_as_json();
    serve::silence_panics();
    let config = configuration(&arguments.state, arguments.config.as_deref())?;
    // Identities are read again when they change, and those are the state directory's.
    let identities = arguments.state.join(CONFIGURATION);
    serve::serve(&identities, config, move |config| {
        let Some(data) = config.data.first() else {
            return;
        };
        let ready = Ready {
            data: data.listen,
            admin: config.admin.as_ref().map(|admin| admin.listen),
        };
        let told = serde_json::to_writer(&socket, &ready)
            .map_err(io::Error::other)
            .and_then(|()| socket.write_all(b"\n"));
        if let Err(error) = told {
            tracing::error!(%error, "the self-test has gone");
        }
    })
}

/// The configuration under test: `config`'s, with listeners, identities and audit log of `state`.
pub(super) fn configuration(state: &Path, config: Option<&Path>) -> Result<Config, Failure> {
    let mut own = serve::load(&state.join(CONFIGURATION))?;
    // The self-test sends more made-up patients than anybody may.
    own.budgets = Budgets::for_measuring();
    let Some(path) = config else {
        // Large bodies are to be read.
        own.limits.body_bytes = 512 * 1024;
        return Ok(own);
    };
    let mut config = serve::load(path)?;
    config.data = own.data;
    config.health = own.health;
    config.admin = own.admin;
    config.principals = own.principals;
    config.issuers = own.issuers;
    config.authorization = own.authorization;
    config.budgets = own.budgets;
    config.keys = own.keys;
    let mode = config.audit.mode;
    config.audit = own.audit;
    config.audit.mode = mode;
    Ok(config)
}

fn inherited_socket() -> anyhow::Result<UnixStream> {
    let started = "this is started by `vitalgate selftest phi`, with a socket as standard input";
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let socket = UnixStream::from(stdin);
    match socket.peer_addr() {
        Ok(address) if address.is_unnamed() => Ok(socket),
        Ok(_) | Err(_) => Err(anyhow!(started)),
    }
}

/// Opens this process's memory and passes the descriptors on.
fn hand_over(socket: &UnixStream) -> io::Result<()> {
    let (memory, maps) = (
        File::open("/proc/self/mem")?,
        File::open("/proc/self/maps")?,
    );
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [memory.as_fd(), maps.as_fd()];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for two descriptors"));
    }
    let data = [IoSlice::new(b"m")];
    sendmsg(socket, &data, &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// The other side: takes memory and maps, in this order.
pub(super) fn take_over(socket: &UnixStream) -> io::Result<(File, File)> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    let data = &mut [io::IoSliceMut::new(&mut byte)];
    let received = recvmsg(socket, data, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<OwnedFd>>(),
        RecvAncillaryMessage::ScmCredentials(_) | _ => Vec::new(),
    });
    match (received.bytes, descriptors.next(), descriptors.next()) {
        (1, Some(memory), Some(maps)) => Ok((File::from(memory), File::from(maps))),
        _ => Err(io::Error::other("the server handed over nothing")),
    }
}

/// Waits for the server to be ready.
pub(super) fn await_ready(socket: &mut UnixStream) -> io::Result<Ready> {
    let (mut line, mut byte) = (Vec::new(), [0u8; 1]);
    loop {
        if socket.read(&mut byte)? == 0 {
            return Err(io::Error::other("the server ended before it was ready"));
        }
        if byte == *b"\n" {
            return serde_json::from_slice(&line).map_err(io::Error::other);
        }
        line.extend_from_slice(&byte);
    }
}
