//! Why a command has no effect, in the words that clients know from Redis.

/// A command's refusal. `Display` is the text of the error reply.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CommandError {
    #[error("ERR syntax error")]
    Syntax,
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(String),
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    #[error("ERR hash value is not an integer")]
    HashValueNotInteger,
    #[error("ERR increment or decrement would overflow")]
    IncrementOverflow,
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(&'static str),
    #[error("ERR offset is out of range")]
    Offset,
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    TooLong,
    #[error("ERR invalid cursor")]
    Cursor,
    #[error("ERR Unsupported option {0}")]
    ExpireOption(String),
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    ExpireNxWithOthers,
    #[error("ERR GT and LT options at the same time are not compatible")]
    ExpireGtAndLt,
    #[error("ERR the reply exceeds {limit} bytes; ask for less at once (HSCAN, SCAN, fewer keys)")]
    ReplyTooLong { limit: usize },
    #[error(
        "TRYAGAIN the replies to what was sent together exceed {limit} bytes; this command changed nothing"
    )]
    RepliesTooLong { limit: usize },
    #[error(
        "INDETERMINATE the command took effect, but the replies to what was sent together exceed {limit} bytes; read before you send it again"
    )]
    ReplyLost { limit: usize },
    #[error("ERR command '{0}' writes, and came among reads")]
    WriteAmongReads(&'static str),
}

/// A command either writes its reply or says why not.
pub(super) type Outcome = Result<(), CommandError>;
