//! `grpc.health.v1.Health/Check` in as much HTTP/2 as one call needs: our own headers never change, and of the answer only
//! the message is read (RFC 9113, RFC 7541, gRPC over HTTP/2, gRPC health checking).

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const METHOD: &str = "/grpc.health.v1.Health/Check";
const USER_AGENT: &str = concat!("clusterip-probe/", env!("CARGO_PKG_VERSION"));
/// Longest name of a service that is asked for: all lengths of the request fit into one byte then.
pub(super) const MAX_SERVICE: usize = 100;
/// Longest frame that a peer may send unless it was told otherwise.
const MAX_FRAME: usize = 16_384;
/// `HealthCheckResponse.SERVING`
const SERVING: u8 = 1;

/// Types of frames.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const GOAWAY: u8 = 7;
}

/// Flags of frames.
mod flag {
    pub(super) const ACK: u8 = 1;
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
}

/// The whole request; none if something in it is too long.
pub(super) fn request(authority: &str, service: &str) -> Option<Vec<u8>> {
    let mut headers = vec![
        0x83, // :method POST, entry 3 of the static table
        0x86, // :scheme http, entry 6
    ];
    // Literals that are not to be indexed: a name of the static table, or one of its own.
    literal(&mut headers, &[0x04], METHOD)?;
    literal(&mut headers, &[0x01], authority)?;
    literal(&mut headers, &[0x0f, 31 - 15], "application/grpc")?;
    literal(&mut headers, &[0x0f, 58 - 15], USER_AGENT)?;
    literal(&mut headers, b"\x00\x02te", "trailers")?;

    let mut message = Vec::new();
    if !service.is_empty() {
        literal(&mut message, &[0x0a], service)?;
    }
    // Not compressed, and its length.
    let mut data = vec![0, 0, 0, 0, u8::try_from(message.len()).ok()?];
    data.extend(message);

    let mut all = PREFACE.to_vec();
    all.extend(frame(kind::SETTINGS, 0, 0, &[])?);
    all.extend(frame(kind::HEADERS, flag::END_HEADERS, 1, &headers)?);
    all.extend(frame(kind::DATA, flag::END_STREAM, 1, &data)?);
    Some(all)
}

fn literal(to: &mut Vec<u8>, name: &[u8], value: &str) -> Option<()> {
    to.extend(name);
    // The highest bit of a length would mean another coding.
    to.push(
        u8::try_from(value.len())
            .ok()
            .filter(|length| *length < 127)?,
    );
    to.extend(value.as_bytes());
    Some(())
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(payload.len()).ok()?;
    let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
    frame.extend(payload);
    Some(frame)
}

/// Sends a request and reads the answer.
pub(super) async fn ask(mut stream: TcpStream, request: &[u8]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("ask by gRPC: {error}");
    stream.write_all(request).await.map_err(failed)?;
    let mut message = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.map_err(failed)?;
        let [high, middle, low, kind, flags, _, _, _, on] = head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if length > MAX_FRAME {
            return Err("does not answer in HTTP/2".to_owned());
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.map_err(failed)?;
        match kind {
            kind::SETTINGS if flags & flag::ACK == 0 => {
                let ack = [0, 0, 0, kind::SETTINGS, flag::ACK, 0, 0, 0, 0];
                stream.write_all(&ack).await.map_err(failed)?;
            }
            kind::DATA if on == 1 => {
                message.extend(unpadded(&payload, flags));
                if message.len() > MAX_FRAME {
                    return Err("answers with too long a message".to_owned());
                }
            }
            kind::RST_STREAM | kind::GOAWAY => return Err("refuses the call".to_owned()),
            _ => {}
        }
        let ends = matches!(kind, kind::DATA | kind::HEADERS) && on == 1;
        if ends && flags & flag::END_STREAM != 0 {
            return verdict(&message);
        }
    }
}

fn unpadded(payload: &[u8], flags: u8) -> &[u8] {
    if flags & flag::PADDED == 0 {
        return payload;
    }
    let Some((padding, rest)) = payload.split_first() else {
        return payload;
    };
    rest.get(..rest.len().saturating_sub(usize::from(*padding)))
        .unwrap_or_default()
}

/// A message that says SERVING; the status of the call need not be read, as a failed one has no message.
fn verdict(message: &[u8]) -> Result<(), String> {
    match message {
        [] => Err(
            "the call fails: the service is not known, or there is no health service".to_owned(),
        ),
        [0, _, _, _, 2, 0x08, SERVING] => Ok(()),
        [0, _, _, _, 2, 0x08, status] => Err(format!("answers with health status {status}")),
        [0, _, _, _, 0] => Err("answers with health status 0".to_owned()),
        _ => Err("answers with something else than its health".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_serving_is_a_success() {
        for (message, is_success) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], true),
            (&[0, 0, 0, 0, 2, 8, 2], false),
            (&[0, 0, 0, 0, 2, 8, 3], false),
            (&[0, 0, 0, 0, 0], false),
            (&[], false),
            (&[1, 0, 0, 0, 2, 8, 1], false),
        ] {
            assert_eq!(verdict(message).is_ok(), is_success, "{message:?}");
        }
        assert_eq!(unpadded(&[2, 7, 8, 0, 0], flag::PADDED), [7, 8]);
        assert!(unpadded(&[9, 7], flag::PADDED).is_empty());
    }

    #[test]
    fn a_request_is_three_frames_behind_the_preface() {
        let all = request("10.1.0.1:50051", "db").expect("a request");
        let mut rest = all.strip_prefix(PREFACE).expect("the preface");
        let mut kinds = Vec::new();
        while let [_, _, length, kind, _, _, _, _, _, more @ ..] = rest {
            kinds.push(*kind);
            rest = &more[usize::from(*length)..];
        }
        assert_eq!(kinds, [kind::SETTINGS, kind::HEADERS, kind::DATA]);
        assert!(all.ends_with(b"\0\0\0\0\x04\x0a\x02db"));
        assert_eq!(request("a", &"x".repeat(200)), None);
    }
}
