//! What keeps the worker in, as the worker itself found it.

/// The walls around a worker, in the order in which they were put up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxReport {
    /// Each wall, standing or not.
    pub walls: Vec<Wall>,
}

/// One wall around a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wall {
    /// What it is: `no-inheritance`, `no-new-privileges`, `no-core`, `not-dumpable`,
    /// `ends-with-parent`, `files`, `signals`, `system-calls`.
    pub name: String,
    /// Why it does not stand, or stands in part; `None` if it stands.
    pub missing: Option<String>,
}

impl SandboxReport {
    /// Whether every wall stands.
    pub fn complete(&self) -> bool {
        self.walls.iter().all(|wall| wall.missing.is_none())
    }

    /// Whether the wall of this name stands.
    pub fn stands(&self, name: &str) -> bool {
        self.walls.iter().any(|wall| wall.name == name && wall.missing.is_none())
    }
}

impl std::fmt::Display for SandboxReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, wall) in self.walls.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match &wall.missing {
                None => write!(formatter, "{comma}{}", wall.name)?,
                Some(why) => write!(formatter, "{comma}without {} ({why})", wall.name)?,
            }
        }
        Ok(())
    }
}
