//! An S3 server on this machine: s3s with files below a folder, which checks signatures.

use std::io;
use std::path::Path;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

/// Who may ask it.
pub const ACCESS_KEY: &str = "tester";
/// What signs the questions.
pub const SECRET_KEY: &str = "nobody-else-knows";

/// Begins to serve the folders below `root`, which are its buckets, on threads of `runtime`: the address.
pub fn serve(runtime: &tokio::runtime::Runtime, root: &Path) -> io::Result<String> {
    let files = s3s_fs::FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = builder.build();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
            tokio::spawn(connection);
        }
    });
    Ok(format!("http://{address}"))
}
