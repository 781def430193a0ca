//! The vendor's numbers: command codes, errors, object types, algorithms, capabilities; and reading and
//! writing the big-endian fields of messages.
//!
//! Source: the YubiHSM 2 command reference. Numbers this file does not know stay numbers; nothing fails
//! because firmware has learned a new one.

/// Longest message, header included, that every firmware takes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 2047;

/// Longest payload of one encrypted command, after what encryption, MAC and headers take.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 2026;

/// Length of an object's label, padded with zeros.
pub(crate) const LABEL_BYTES: usize = 40;

/// Set in the first byte of an answer to a command that succeeded.
pub(crate) const ANSWER: u8 = 0x80;

pub(crate) mod command {
    pub(crate) const ECHO: u8 = 0x01;
    pub(crate) const CREATE_SESSION: u8 = 0x03;
    pub(crate) const AUTHENTICATE_SESSION: u8 = 0x04;
    pub(crate) const SESSION_MESSAGE: u8 = 0x05;
    pub(crate) const DEVICE_INFO: u8 = 0x06;
    pub(crate) const RESET_DEVICE: u8 = 0x08;
    pub(crate) const CLOSE_SESSION: u8 = 0x40;
    pub(crate) const GET_STORAGE_INFO: u8 = 0x41;
    pub(crate) const GET_OPAQUE: u8 = 0x43;
    pub(crate) const GENERATE_ASYMMETRIC_KEY: u8 = 0x46;
    pub(crate) const SIGN_PKCS1: u8 = 0x47;
    pub(crate) const LIST_OBJECTS: u8 = 0x48;
    pub(crate) const GET_LOG_ENTRIES: u8 = 0x4d;
    pub(crate) const GET_OBJECT_INFO: u8 = 0x4e;
    pub(crate) const SET_OPTION: u8 = 0x4f;
    pub(crate) const GET_OPTION: u8 = 0x50;
    pub(crate) const PUT_HMAC_KEY: u8 = 0x52;
    pub(crate) const SIGN_HMAC: u8 = 0x53;
    pub(crate) const GET_PUBLIC_KEY: u8 = 0x54;
    pub(crate) const SIGN_PSS: u8 = 0x55;
    pub(crate) const SIGN_ECDSA: u8 = 0x56;
    pub(crate) const GENERATE_HMAC_KEY: u8 = 0x5a;
    pub(crate) const SIGN_ATTESTATION_CERTIFICATE: u8 = 0x64;
    pub(crate) const SET_LOG_INDEX: u8 = 0x67;
    pub(crate) const SIGN_EDDSA: u8 = 0x6a;
    /// In answers and never in commands: one byte of error follows.
    pub(crate) const ERROR: u8 = 0x7f;

    /// Commands that make something with a private or secret key. With forced auditing each of them must be
    /// logged, or the log proves nothing.
    pub(crate) const USING_KEYS: [u8; 14] = [
        SIGN_PKCS1, 0x49, SIGN_HMAC, SIGN_PSS, SIGN_ECDSA, 0x57, 0x59, 0x5d, 0x60, 0x61, 0x62, 0x63, 0x69,
        SIGN_EDDSA,
    ];

    /// Commands that bring keys in, take them out, remove them, or change what is logged; with
    /// [`USING_KEYS`], what has to be logged.
    pub(crate) const CHANGING_KEYS: [u8; 12] = [
        0x44,
        0x45,
        GENERATE_ASYMMETRIC_KEY,
        0x4a,
        0x4b,
        0x4c,
        SET_OPTION,
        PUT_HMAC_KEY,
        0x58,
        GENERATE_HMAC_KEY,
        0x5b,
        0x6c,
    ];

    /// What the vendor calls it.
    pub(crate) fn name(code: u8) -> String {
        let known = match code {
            0x00 => "boot",
            ECHO => "echo",
            CREATE_SESSION => "create-session",
            AUTHENTICATE_SESSION => "authenticate-session",
            SESSION_MESSAGE => "session-message",
            DEVICE_INFO => "device-info",
            RESET_DEVICE => "reset-device",
            CLOSE_SESSION => "close-session",
            GET_STORAGE_INFO => "get-storage-info",
            0x42 => "put-opaque",
            GET_OPAQUE => "get-opaque",
            0x44 => "put-authentication-key",
            0x45 => "put-asymmetric-key",
            GENERATE_ASYMMETRIC_KEY => "generate-asymmetric-key",
            SIGN_PKCS1 => "sign-pkcs1",
            LIST_OBJECTS => "list-objects",
            0x49 => "decrypt-pkcs1",
            0x4a => "export-wrapped",
            0x4b => "import-wrapped",
            0x4c => "put-wrap-key",
            GET_LOG_ENTRIES => "get-log-entries",
            GET_OBJECT_INFO => "get-object-info",
            SET_OPTION => "set-option",
            GET_OPTION => "get-option",
            0x51 => "get-pseudo-random",
            PUT_HMAC_KEY => "put-hmac-key",
            SIGN_HMAC => "sign-hmac",
            GET_PUBLIC_KEY => "get-public-key",
            SIGN_PSS => "sign-pss",
            SIGN_ECDSA => "sign-ecdsa",
            0x57 => "derive-ecdh",
            0x58 => "delete-object",
            0x59 => "decrypt-oaep",
            GENERATE_HMAC_KEY => "generate-hmac-key",
            0x5b => "generate-wrap-key",
            0x5c => "verify-hmac",
            0x5d => "sign-ssh-certificate",
            0x60 => "decrypt-otp",
            SIGN_ATTESTATION_CERTIFICATE => "sign-attestation-certificate",
            SET_LOG_INDEX => "set-log-index",
            0x68 => "wrap-data",
            0x69 => "unwrap-data",
            SIGN_EDDSA => "sign-eddsa",
            0x6b => "blink-device",
            0x6c => "change-authentication-key",
            0xff => "initialization",
            other => return format!("command-0x{other:02x}"),
        };
        known.to_owned()
    }
}

pub(crate) mod device_error {
    pub(crate) const INVALID_COMMAND: u8 = 0x01;
    pub(crate) const INVALID_DATA: u8 = 0x02;
    pub(crate) const INVALID_SESSION: u8 = 0x03;
    pub(crate) const AUTHENTICATION_FAILED: u8 = 0x04;
    pub(crate) const SESSIONS_FULL: u8 = 0x05;
    pub(crate) const SESSION_FAILED: u8 = 0x06;
    pub(crate) const WRONG_LENGTH: u8 = 0x08;
    pub(crate) const INSUFFICIENT_PERMISSIONS: u8 = 0x09;
    pub(crate) const LOG_FULL: u8 = 0x0a;
    pub(crate) const OBJECT_NOT_FOUND: u8 = 0x0b;
    pub(crate) const INVALID_ID: u8 = 0x0c;
    pub(crate) const COMMAND_UNEXECUTED: u8 = 0x0f;
    pub(crate) const OBJECT_EXISTS: u8 = 0x11;

    pub(crate) fn name(code: u8) -> String {
        let known = match code {
            INVALID_COMMAND => "invalid command",
            INVALID_DATA => "invalid data",
            INVALID_SESSION => "invalid session",
            AUTHENTICATION_FAILED => "authentication failed",
            SESSIONS_FULL => "all of the device's sessions are in use",
            SESSION_FAILED => "session failed",
            0x07 => "storage failed",
            WRONG_LENGTH => "wrong length",
            INSUFFICIENT_PERMISSIONS => "insufficient permissions",
            LOG_FULL => "the device's log is full; nothing is done until it has been recorded and consumed",
            OBJECT_NOT_FOUND => "object not found",
            INVALID_ID => "invalid id",
            COMMAND_UNEXECUTED => "command not executed",
            OBJECT_EXISTS => "object exists",
            other => return format!("device error 0x{other:02x}"),
        };
        known.to_owned()
    }
}

pub(crate) mod object_type {
    pub(crate) const OPAQUE: u8 = 1;
    pub(crate) const AUTHENTICATION_KEY: u8 = 2;
    pub(crate) const ASYMMETRIC_KEY: u8 = 3;
    pub(crate) const HMAC_KEY: u8 = 5;
}

pub(crate) mod object_algorithm {
    pub(crate) const RSA_2048: u8 = 9;
    pub(crate) const RSA_3072: u8 = 10;
    pub(crate) const RSA_4096: u8 = 11;
    pub(crate) const P256: u8 = 12;
    pub(crate) const P384: u8 = 13;
    pub(crate) const K256: u8 = 15;
    pub(crate) const HMAC_SHA256: u8 = 20;
    pub(crate) const HMAC_SHA384: u8 = 21;
    pub(crate) const HMAC_SHA512: u8 = 22;
    pub(crate) const MGF1_SHA256: u8 = 33;
    pub(crate) const MGF1_SHA384: u8 = 34;
    pub(crate) const MGF1_SHA512: u8 = 35;
    pub(crate) const ED25519: u8 = 46;
}

/// Bits of an object's capabilities.
pub(crate) mod capability {
    pub(crate) const GET_OPAQUE: u64 = 0x1;
    pub(crate) const GENERATE_ASYMMETRIC_KEY: u64 = 0x10;
    pub(crate) const SIGN_PKCS: u64 = 0x20;
    pub(crate) const SIGN_PSS: u64 = 0x40;
    pub(crate) const SIGN_ECDSA: u64 = 0x80;
    pub(crate) const SIGN_EDDSA: u64 = 0x100;
    pub(crate) const SET_OPTION: u64 = 0x2_0000;
    pub(crate) const GET_OPTION: u64 = 0x4_0000;
    pub(crate) const PUT_HMAC_KEY: u64 = 0x10_0000;
    pub(crate) const GENERATE_HMAC_KEY: u64 = 0x20_0000;
    pub(crate) const SIGN_HMAC: u64 = 0x40_0000;
    pub(crate) const GET_LOG_ENTRIES: u64 = 0x100_0000;
    pub(crate) const RESET_DEVICE: u64 = 0x1000_0000;
    pub(crate) const SIGN_ATTESTATION_CERTIFICATE: u64 = 0x4_0000_0000;
    /// Every way of signing with a key, and of computing a MAC.
    pub(crate) const ANY_SIGN: u64 = SIGN_PKCS | SIGN_PSS | SIGN_ECDSA | SIGN_EDDSA | SIGN_HMAC;
}

/// Device-wide options.
pub(crate) mod option {
    pub(crate) const FORCE_AUDIT: u8 = 1;
    pub(crate) const COMMAND_AUDIT: u8 = 3;
}

/// A whole message: code, length, content.
pub(crate) fn message(code: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [&[code], length.to_be_bytes().as_slice(), content].concat()
}

/// Code and content of a whole message; `None` if its length is not what it says.
pub(crate) fn parse(message: &[u8]) -> Option<(u8, &[u8])> {
    let mut fields = Fields(message);
    let (code, length) = (fields.u8()?, fields.u16()?);
    (fields.0.len() == usize::from(length)).then_some((code, fields.0))
}

/// A label as objects carry it; `None` if it is too long or empty.
pub(crate) fn padded_label(label: &str) -> Option<[u8; LABEL_BYTES]> {
    let mut padded = [0; LABEL_BYTES];
    padded.get_mut(..label.len())?.copy_from_slice(label.as_bytes());
    (!label.is_empty()).then_some(padded)
}

/// What is left to read of a message.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}
