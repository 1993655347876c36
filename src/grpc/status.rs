//! How a gRPC call ends: its status, and what it is in HTTP.

use std::fmt;

/// A status of gRPC (`statuscodes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

use Status::{
    Aborted, AlreadyExists, Cancelled, DataLoss, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument,
    NotFound, Ok, OutOfRange, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable, Unimplemented,
    Unknown,
};

/// Each status with its name in configuration, which is also its code's name in gRPC, and the status of HTTP that Envoy
/// takes it for (`Grpc::Utility::grpcToHttpStatus`).
const STATUSES: [(Status, &str, u16); 17] = [
    (Ok, "OK", 200),
    (Cancelled, "CANCELLED", 499),
    (Unknown, "UNKNOWN", 500),
    (InvalidArgument, "INVALID_ARGUMENT", 400),
    (DeadlineExceeded, "DEADLINE_EXCEEDED", 504),
    (NotFound, "NOT_FOUND", 404),
    (AlreadyExists, "ALREADY_EXISTS", 409),
    (PermissionDenied, "PERMISSION_DENIED", 403),
    (ResourceExhausted, "RESOURCE_EXHAUSTED", 429),
    (FailedPrecondition, "FAILED_PRECONDITION", 400),
    (Aborted, "ABORTED", 409),
    (OutOfRange, "OUT_OF_RANGE", 400),
    (Unimplemented, "UNIMPLEMENTED", 501),
    (Internal, "INTERNAL", 500),
    (Unavailable, "UNAVAILABLE", 503),
    (DataLoss, "DATA_LOSS", 500),
    (Unauthenticated, "UNAUTHENTICATED", 401),
];

impl Status {
    /// All of them by their names, in the order of their numbers.
    pub const NAMES: [(&str, Self); STATUSES.len()] = {
        let mut names = [("", Ok); STATUSES.len()];
        let mut at = 0;
        while at < STATUSES.len() {
            names[at] = (STATUSES[at].1, STATUSES[at].0);
            at += 1;
        }
        names
    };

    /// Its number, as it stands in the field `grpc-status`.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The status of this number; `None` for numbers that gRPC has not given out.
    #[must_use]
    pub fn from_code(code: u64) -> Option<Self> {
        STATUSES.get(usize::try_from(code).ok()?).map(|(status, ..)| *status)
    }

    /// Reads a field `grpc-status`. A number that nobody knows is [`Unknown`](Self::Unknown), as gRPC asks of its clients;
    /// `None`: it is no number.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let is_number = !value.is_empty() && value.len() <= 10 && value.iter().all(u8::is_ascii_digit);
        let code = value.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit.wrapping_sub(b'0')));
        is_number.then(|| Self::from_code(code).unwrap_or(Unknown))
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        STATUSES[usize::from(self.code())].1
    }

    /// The status of HTTP that it counts as where answers are judged by those, such as outlier detection.
    #[must_use]
    pub fn as_http(self) -> u16 {
        STATUSES[usize::from(self.code())].2
    }

    /// What a gRPC client is told instead of an answer with the HTTP status `http` of a proxy.
    ///
    /// As Envoy has it, which follows gRPC's `http-grpc-status-mapping.md`; but a time that ran out is told as what it is,
    /// and what is too much as too much.
    #[must_use]
    pub fn of_http(http: u16) -> Self {
        match http {
            200 => Ok,
            400 => Internal,
            401 => Unauthenticated,
            403 => PermissionDenied,
            404 => Unimplemented,
            408 | 504 => DeadlineExceeded,
            413 | 429 | 431 => ResourceExhausted,
            499 => Cancelled,
            502 | 503 => Unavailable,
            _ => Unknown,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_of_codes() {
        for (code, (status, name, _)) in STATUSES.into_iter().enumerate() {
            assert_eq!(usize::from(status.code()), code);
            assert_eq!(Status::NAMES[code], (name, status));
            assert_eq!(Status::from_code(code as u64), Some(status));
            assert_eq!(Status::parse(code.to_string().as_bytes()), Some(status));
            assert_eq!(status.to_string(), name);
        }
        assert_eq!(Status::from_code(17), None);
    }

    #[test]
    fn fields() {
        for (value, expected) in [
            ("0", Some(Ok)),
            ("14", Some(Unavailable)),
            ("014", Some(Unavailable)),
            ("17", Some(Unknown)),
            ("4294967296", Some(Unknown)),
            ("99999999999", None),
            ("", None),
            ("-1", None),
            ("1x", None),
            ("UNAVAILABLE", None),
        ] {
            assert_eq!(Status::parse(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn answers_of_a_proxy() {
        for (http, expected) in [
            (403, PermissionDenied),
            (401, Unauthenticated),
            (404, Unimplemented),
            (429, ResourceExhausted),
            (431, ResourceExhausted),
            (502, Unavailable),
            (503, Unavailable),
            (504, DeadlineExceeded),
            (400, Internal),
            (418, Unknown),
        ] {
            assert_eq!(Status::of_http(http), expected, "{http}");
        }
        assert_eq!((Unavailable.as_http(), Unauthenticated.as_http(), Ok.as_http()), (503, 401, 200));
    }
}
