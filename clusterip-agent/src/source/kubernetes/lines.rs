//! A body as a row of lines.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use kube::client::Body;
use tokio::time::timeout;

use super::failure::Cause;

/// The lines that have come of a body.
#[derive(Default, Debug)]
pub(super) struct Lines {
    /// The beginning of a line, or of several.
    rest: BytesMut,
    /// So far there is no end of a line in `rest`.
    searched: usize,
}

impl Lines {
    pub(super) fn push(&mut self, bytes: &Bytes) {
        self.rest.extend_from_slice(bytes);
    }

    /// The next whole line, without its end.
    pub(super) fn next(&mut self) -> Option<BytesMut> {
        let unsearched = self.rest.get(self.searched..)?;
        let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.rest.len();
            return None;
        };
        let mut line = self.rest.split_to(self.searched + at + 1);
        line.truncate(line.len() - 1);
        self.searched = 0;
        Some(line)
    }
}

/// What comes next of a body; None at its end.
///
/// # Errors
/// It broke off, or nothing came for so long.
pub(super) async fn chunk(body: &mut Body, patience: Duration) -> Result<Option<Bytes>, Cause> {
    loop {
        let frame = timeout(patience, body.frame());
        match frame.await {
            Err(_elapsed) => return Err(Cause::Silent(patience)),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(Cause::broken(&error)),
            // Trailers are of no interest.
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A body to its end.
///
/// # Errors
/// As for [`chunk`].
pub(super) async fn whole(mut body: Body, patience: Duration) -> Result<BytesMut, Cause> {
    let mut all = BytesMut::new();
    while let Some(bytes) = chunk(&mut body, patience).await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_they_came_in() {
        let text = b"one\n\ntwo\nthree";
        for size in 1..=text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for part in text.chunks(size) {
                lines.push(&Bytes::copy_from_slice(part));
                while let Some(line) = lines.next() {
                    found.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(found, ["one", "", "two"], "in parts of {size}");
        }
    }
}
