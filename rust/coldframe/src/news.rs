//! What happens beside the invocations, for the caller's log.

pub use coldframe_core::pool::news::Level;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// How much it matters.
    pub level: Level,
    /// What it was.
    pub message: String,
}

impl From<coldframe_core::pool::news::News> for News {
    fn from(news: coldframe_core::pool::news::News) -> Self {
        Self { level: news.level(), message: news.to_string() }
    }
}
