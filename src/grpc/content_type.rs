//! What makes a request a gRPC call: its content type.

const GRPC: &[u8] = b"application/grpc";
const GRPC_WEB: &[u8] = b"application/grpc-web";

/// Whether `content_type` is that of a gRPC call: `application/grpc`, perhaps with a message format (`+proto`) or parameters.
/// Not gRPC-Web, which has its own framing and is not translated.
#[must_use]
pub fn is_grpc(content_type: &[u8]) -> bool {
    begins(content_type, GRPC, b"+; \t")
}

/// Whether `content_type` is that of gRPC-Web: `application/grpc-web` or `application/grpc-web-text`.
#[must_use]
pub fn is_grpc_web(content_type: &[u8]) -> bool {
    begins(content_type, GRPC_WEB, b"+;- \t")
}

/// Whether `value` is `kind`, in any case, or `kind` with one of `separators` behind it.
fn begins(value: &[u8], kind: &[u8], separators: &[u8]) -> bool {
    let Some((start, rest)) = value.split_at_checked(kind.len()) else { return false };
    start.eq_ignore_ascii_case(kind) && rest.first().is_none_or(|byte| separators.contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (value, grpc, web) in [
            ("application/grpc", true, false),
            ("Application/GRPC", true, false),
            ("application/grpc+proto", true, false),
            ("application/grpc;charset=utf-8", true, false),
            ("application/grpc ; a=b", true, false),
            ("application/grpc-web", false, true),
            ("application/grpc-web-text+proto", false, true),
            ("application/grpc-web+proto", false, true),
            ("application/grpcx", false, false),
            ("application/grp", false, false),
            ("application/json", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_grpc(value.as_bytes()), is_grpc_web(value.as_bytes())), (grpc, web), "{value}");
        }
    }
}
