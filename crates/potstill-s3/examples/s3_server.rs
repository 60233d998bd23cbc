//! Serves the folders below a folder as buckets of an S3 server on this machine, until its input ends: for tests of the command
//! line. Prints its address and who may ask.

#[path = "../tests/common/server.rs"]
mod server;

use std::io::{self, Read};
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let Some(root) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("which folder?"));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let url = server::serve(&runtime, &root)?;
    println!("{url} {} {}", server::ACCESS_KEY, server::SECRET_KEY);
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
