//! RocksDB: how it is tuned, what is in it, and the one function that writes to it.
//!
//! Nothing outside this file names RocksDB. Reads may come from any thread; [`Store::commit`] is called
//! by the one writer, with a batch that is atomic over all families. A compressed table would save disk
//! and cost the clarity of "the bytes hashed are the bytes stored", so there is none.
//!
//! The write-ahead log recycles its files: a sync then need not wait for the file system's journal. The
//! price is point-in-time recovery, which stops quietly at a damaged record; `high_water.rs` makes that
//! loud again.

use std::path::Path;
use std::sync::Arc;

use chancery_format::cose::{CoseReceipt, VerifiedCoseHead};
use chancery_format::heads::{Head, HeadName};
use chancery_format::tile::FullTile;
use chancery_format::{Hash, LeafIndex, StreamName, TreeHead, TreeSize};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode,
    Direction, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::disk::{Disk, DiskError};
use crate::layout::{self, BadShape, Family, StreamHead};
use crate::options::{RollLimits, SyncMode};
use crate::replay::{ReplayId, ReplayRecord};

/// Why the store did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The engine could not read. The disk is at fault, or the machine is out of memory or files; a read
    /// may be retried.
    #[error("reading the ledger's database: {0}")]
    Read(String),
    /// Stored bytes are not what was written. Corruption: the process must stop.
    #[error("the ledger's database is corrupt: {0}")]
    Corrupt(String),
    /// A write failed, and whether it happened is unknown: the process must stop.
    #[error("writing the ledger's database: {0}")]
    Write(#[from] DiskError),
}

impl From<BadShape> for StoreError {
    fn from(bad: BadShape) -> Self {
        Self::Corrupt(format!("a row of `{}` does not have its shape", bad.0.name()))
    }
}

impl From<rocksdb::Error> for StoreError {
    fn from(error: rocksdb::Error) -> Self {
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Self::Corrupt(error.into_string()),
            _ => Self::Read(error.into_string()),
        }
    }
}

/// The open database.
pub(crate) struct Store {
    db: DB,
    disk: Arc<dyn Disk>,
}

impl Store {
    /// Opens the database in `dir`; makes it only if `create`.
    pub(crate) fn open(
        dir: &Path,
        create: bool,
        limits: &RollLimits,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StoreError> {
        let cache = Cache::new_lru_cache(limits.block_cache_bytes);
        let families = Family::ALL
            .map(|family| ColumnFamilyDescriptor::new(family.name(), family_options(family, limits, &cache)));
        let mut options = database_options(create, limits);
        if !create && lacks_added(&options, dir)? {
            options.create_missing_column_families(true);
        }
        let db = DB::open_cf_descriptors(&options, dir, families)?;
        Ok(Self { db, disk })
    }

    /// Opens the database to read it. Nothing is written, not even by the engine.
    pub(crate) fn open_read_only(dir: &Path, limits: &RollLimits) -> Result<Self, StoreError> {
        let cache = Cache::new_lru_cache(limits.block_cache_bytes);
        let options = database_options(false, limits);
        let there = DB::list_cf(&options, dir)?;
        let families = there.into_iter().map(|name| {
            let known = Family::ALL.into_iter().find(|family| family.name() == name);
            let options =
                known.map_or_else(Options::default, |family| family_options(family, limits, &cache));
            ColumnFamilyDescriptor::new(name, options)
        });
        let db = DB::open_cf_descriptors_read_only(&options, dir, families, false)?;
        Ok(Self { db, disk: Arc::new(crate::disk::RealDisk) })
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, StoreError> {
        let missing = || StoreError::Corrupt(format!("column family `{}` is missing", family.name()));
        self.db.cf_handle(family.name()).ok_or_else(missing)
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get_cf(self.family(family)?, key)?)
    }

    /// The row with the greatest key ≤ `key`.
    fn at_or_before(&self, family: Family, key: &[u8]) -> Result<Option<Row>, StoreError> {
        let mode = IteratorMode::From(key, Direction::Reverse);
        self.db.iterator_cf(self.family(family)?, mode).next().transpose().map_err(Into::into)
    }

    /// Rows from `key` on, at most `limit`.
    fn rows_from(&self, family: Family, key: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        if Family::ADDED.contains(&family) && self.db.cf_handle(family.name()).is_none() {
            // Opened to read only, and made before there was such a thing.
            return Ok(Vec::new());
        }
        let mode = IteratorMode::From(key, Direction::Forward);
        let rows = self.db.iterator_cf_opt(self.family(family)?, read_once(), mode).take(limit);
        rows.map(|row| row.map_err(Into::into)).collect()
    }

    fn last(&self, family: Family) -> Result<Option<Row>, StoreError> {
        let mut rows = self.db.iterator_cf(self.family(family)?, IteratorMode::End);
        rows.next().transpose().map_err(Into::into)
    }

    /// Starts a batch.
    pub(crate) fn writes(&self) -> Result<Writes<'_>, StoreError> {
        Ok(Writes { store: self, batch: WriteBatch::with_capacity_bytes(256 << 10) })
    }

    /// Writes one batch, whole or not at all. An error leaves it unknown which.
    pub(crate) fn commit(&self, writes: Writes<'_>, sync: SyncMode) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(match sync {
            SyncMode::On => true,
            SyncMode::OffForBenchmark => false,
        });
        let mut batch = Some(writes.batch);
        self.disk.commit(&mut || match batch.take() {
            Some(batch) => self.db.write_opt(batch, &options).map_err(|error| DiskError(error.into_string())),
            None => Err(DiskError("a batch was offered to the disk twice".into())),
        })?;
        Ok(())
    }

    pub(crate) fn origin(&self) -> Result<Option<String>, StoreError> {
        let text = self.get(Family::Meta, layout::META_ORIGIN)?;
        text.map(|text| String::from_utf8(text).map_err(|_| BadShape(Family::Meta).into())).transpose()
    }

    pub(crate) fn format(&self) -> Result<Option<u64>, StoreError> {
        let value = self.get(Family::Meta, layout::META_FORMAT)?;
        value.map(|value| Ok(layout::u64_of(&value, Family::Meta)?)).transpose()
    }

    /// Tree head and number of streams.
    pub(crate) fn head(&self) -> Result<Option<(TreeHead, u64)>, StoreError> {
        let value = self.get(Family::Meta, layout::META_HEAD)?;
        value.map(|value| Ok(layout::decode_head(&value)?)).transpose()
    }

    pub(crate) fn leaf(&self, index: LeafIndex) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(Family::Entries, &index.0.to_be_bytes())
    }

    /// Leaves from `first` on, which must all be there.
    pub(crate) fn leaves(&self, first: u64, count: usize) -> Result<Vec<Box<[u8]>>, StoreError> {
        let mut leaves = Vec::with_capacity(count);
        self.each_leaf(first, count, |_, leaf| {
            leaves.push(leaf.into());
            Ok::<_, StoreError>(())
        })?;
        Ok(leaves)
    }

    /// Shows each leaf from `first` on, which must all be there, without copying it.
    pub(crate) fn each_leaf<E: From<StoreError>>(
        &self,
        first: u64,
        count: usize,
        mut show: impl FnMut(LeafIndex, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let family = self.family(Family::Entries)?;
        let mut rows = self.db.raw_iterator_cf_opt(family, read_once());
        rows.seek(first.to_be_bytes());
        for index in (first..).take(count) {
            let leaf = rows.item().filter(|(key, _)| **key == index.to_be_bytes()).map(|(_, leaf)| leaf);
            let Some(leaf) = leaf else {
                rows.status().map_err(StoreError::from)?;
                let missing = format!("{count} entries from {first} on are not all there");
                return Err(StoreError::Corrupt(missing).into());
            };
            show(LeafIndex(index), leaf)?;
            rows.next();
        }
        Ok(())
    }

    /// The greatest index stored.
    pub(crate) fn last_index(&self) -> Result<Option<u64>, StoreError> {
        let row = self.last(Family::Entries)?;
        row.map(|(key, _)| Ok(layout::u64_of(&key, Family::Entries)?)).transpose()
    }

    pub(crate) fn tile(&self, level: u8, number: u64) -> Result<Vec<Hash>, StoreError> {
        let value = self.get(Family::Tiles, &layout::tile_key(level, number))?;
        let hashes = value.and_then(|bytes| chancery_format::tile::decode_tile(&bytes));
        let full = hashes.filter(|hashes| hashes.len() as u64 == chancery_format::tile::WIDTH);
        full.ok_or_else(|| StoreError::Corrupt(format!("tile {level}/{number} is missing or damaged")))
    }

    pub(crate) fn stream(&self, stream: &StreamName) -> Result<Option<StreamHead>, StoreError> {
        let value = self.get(Family::Streams, stream.as_str().as_bytes())?;
        value.map(|value| Ok(StreamHead::decode(&value)?)).transpose()
    }

    /// Indices of a stream's events from `seq` on, at most `limit`.
    pub(crate) fn stream_indices(
        &self,
        number: u64,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        let Some((start, _)) = self.at_or_before(Family::StreamIndex, &layout::pair_key(number, seq))? else {
            return Ok(Vec::new());
        };
        let mut indices = Vec::new();
        let mode = IteratorMode::From(&start, Direction::Forward);
        for row in self.db.iterator_cf(self.family(Family::StreamIndex)?, mode) {
            let (key, run) = row?;
            let (stream, first) = layout::pair_of_key(&key)?;
            if stream > number || indices.len() >= limit {
                break;
            }
            let run = layout::decode_run(&run, Family::StreamIndex)?;
            if stream == number {
                let numbered = (first..).zip(run).skip_while(|(at, _)| *at < seq);
                indices.extend(numbered.map(|(_, index)| index).take(limit - indices.len()));
            }
        }
        Ok(indices)
    }

    pub(crate) fn replay(&self, id: ReplayId) -> Result<Option<ReplayRecord>, StoreError> {
        let value = self.get(Family::Replay, &id.0.0)?;
        value.map(|value| Ok(ReplayRecord::decode(&value)?)).transpose()
    }

    pub(crate) fn event_id(&self, id: &str) -> Result<Option<LeafIndex>, StoreError> {
        let value = self.get(Family::EventIds, id.as_bytes())?;
        value.map(|value| Ok(LeafIndex(layout::u64_of(&value, Family::EventIds)?))).transpose()
    }

    /// Open intents from number `from` on, at most `limit`.
    pub(crate) fn intents(&self, from: u64, limit: usize) -> Result<Vec<NumberedIntent>, StoreError> {
        let rows = self.rows_from(Family::Intents, &from.to_be_bytes(), limit)?;
        rows.into_iter().map(|(key, value)| Ok((layout::u64_of(&key, Family::Intents)?, value))).collect()
    }

    /// The first checkpoint of at least `size` leaves.
    pub(crate) fn checkpoint_from(&self, size: u64) -> Result<Option<(TreeSize, String)>, StoreError> {
        let row = self.rows_from(Family::Checkpoints, &size.to_be_bytes(), 1)?.pop();
        row.map(|row| decode_checkpoint(&row)).transpose()
    }

    /// The first checkpoint of at least `size` leaves, as stored, whatever it is.
    pub(crate) fn checkpoint_row_from(&self, size: u64) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let row = self.rows_from(Family::Checkpoints, &size.to_be_bytes(), 1)?.pop();
        row.map(|(key, note)| Ok((layout::u64_of(&key, Family::Checkpoints)?, note.into_vec()))).transpose()
    }

    /// Heads of streams as stored, by name, after a name, at most `limit`.
    pub(crate) fn stream_rows(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.rows_after(Family::Streams, after, limit)
    }

    /// Heads of chains as stored, by name, after a name, at most `limit`.
    pub(crate) fn head_rows(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.rows_after(Family::Heads, after, limit)
    }

    /// Where keys were used as stored, after a row, at most `limit`.
    pub(crate) fn key_use_rows(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.rows_after(Family::KeyUses, after, limit)
    }

    fn rows_after(&self, family: Family, after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        // The next key there can be.
        let from = after.map(|key| [key, &[0]].concat()).unwrap_or_default();
        self.rows_from(family, &from, limit)
    }

    /// A chain's head as stored.
    pub(crate) fn chain_head(&self, name: &HeadName) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(Family::Heads, name.as_str().as_bytes())
    }

    pub(crate) fn last_checkpoint(&self) -> Result<Option<(TreeSize, String)>, StoreError> {
        self.last(Family::Checkpoints)?.map(|row| decode_checkpoint(&row)).transpose()
    }

    /// The first checkpoint of at least `size` leaves with its witnesses' cosignatures.
    pub(crate) fn witnessed_from(&self, size: u64) -> Result<Option<(TreeSize, String)>, StoreError> {
        let row = self.rows_from(Family::Witnessed, &size.to_be_bytes(), 1)?.pop();
        row.map(|row| decode_checkpoint(&row)).transpose()
    }

    /// The last one of at most `size` leaves.
    pub(crate) fn witnessed_up_to(&self, size: u64) -> Result<Option<(TreeSize, String)>, StoreError> {
        let key = size.to_be_bytes();
        let mode = IteratorMode::From(&key, Direction::Reverse);
        let mut rows = self.db.iterator_cf(self.family(Family::Witnessed)?, mode);
        rows.next().transpose()?.map(|row| decode_checkpoint(&row)).transpose()
    }

    pub(crate) fn last_witnessed(&self) -> Result<Option<(TreeSize, String)>, StoreError> {
        self.last(Family::Witnessed)?.map(|row| decode_checkpoint(&row)).transpose()
    }

    pub(crate) fn registry(&self, version: u64) -> Result<Option<(Vec<u8>, String)>, StoreError> {
        let value = self.get(Family::Registry, &version.to_be_bytes())?;
        value.map(|value| Ok(layout::decode_registry(&value)?)).transpose()
    }

    pub(crate) fn last_registry(&self) -> Result<Option<u64>, StoreError> {
        let row = self.last(Family::Registry)?;
        row.map(|(key, _)| Ok(layout::u64_of(&key, Family::Registry)?)).transpose()
    }

    /// The size whose heads were stored last, and the leaf that enrols them.
    pub(crate) fn heads_at(&self) -> Result<Option<(u64, Option<LeafIndex>)>, StoreError> {
        let value = self.get(Family::Meta, layout::META_HEADS)?;
        value.map(|value| Ok(layout::decode_heads_at(&value)?)).transpose()
    }

    /// The newest head that was signed for COSE receipts.
    pub(crate) fn cose_head(&self) -> Result<Option<CoseReceipt>, StoreError> {
        let value = self.get(Family::Meta, layout::META_COSE_HEAD)?;
        value.map(|value| CoseReceipt::parse(&value).map_err(|_| BadShape(Family::Meta).into())).transpose()
    }

    /// The stored head of every chain.
    pub(crate) fn heads(&self) -> Result<Vec<(HeadName, Head)>, StoreError> {
        let rows = self.rows_from(Family::Heads, &[], usize::MAX)?;
        let read = |(name, head): Row| {
            let name = std::str::from_utf8(&name).ok().and_then(|name| name.parse().ok());
            Ok((name.ok_or(BadShape(Family::Heads))?, layout::decode_chain_head(&head)?))
        };
        rows.into_iter().map(read).collect()
    }

    /// Where the entries of a key are, after the first `skip`, at most `limit`.
    pub(crate) fn key_uses(
        &self,
        name: &HeadName,
        skip: u64,
        limit: usize,
    ) -> Result<Vec<LeafIndex>, StoreError> {
        let (mut number, mut indices) = (skip, Vec::new());
        while indices.len() < limit {
            let run = self.key_uses_run(name, number)?;
            let skipped = (number % layout::KEY_USES_RUN) as usize;
            let before = indices.len();
            indices.extend(run.into_iter().skip(skipped).take(limit - before));
            if indices.len() == before {
                break;
            }
            number += (indices.len() - before) as u64;
        }
        Ok(indices)
    }

    /// The row that has this use of a key, from its first one on; empty if it is not there.
    pub(crate) fn key_uses_run(&self, name: &HeadName, number: u64) -> Result<Vec<LeafIndex>, StoreError> {
        match self.get(Family::KeyUses, &layout::key_uses_key(name, number))? {
            Some(row) => Ok(layout::decode_run(&row, Family::KeyUses)?),
            None => Ok(Vec::new()),
        }
    }

    /// Tree size that archive epoch `epoch` closes with, once planned.
    pub(crate) fn epoch(&self, epoch: u64) -> Result<Option<TreeSize>, StoreError> {
        let value = self.get(Family::Archive, &epoch.to_be_bytes())?;
        value.map(|value| Ok(TreeSize(layout::u64_of(&value, Family::Archive)?))).transpose()
    }

    /// The last planned archive epoch.
    pub(crate) fn last_epoch(&self) -> Result<Option<u64>, StoreError> {
        let row = self.last(Family::Archive)?;
        row.map(|(key, _)| Ok(layout::u64_of(&key, Family::Archive)?)).transpose()
    }
}

/// Runs are read once, to be archived or shown, and would push out what look-ups need.
fn read_once() -> ReadOptions {
    let mut reading = ReadOptions::default();
    reading.fill_cache(false);
    reading
}

/// Whether a database lacks families that its makers did not have yet, and no other.
fn lacks_added(options: &Options, dir: &Path) -> Result<bool, StoreError> {
    let there = DB::list_cf(options, dir)?;
    let lacks = |family: &Family| !there.iter().any(|name| name == family.name());
    let mut lacking = Family::ALL.into_iter().filter(lacks).peekable();
    Ok(lacking.peek().is_some() && lacking.all(|family| Family::ADDED.contains(&family)))
}

pub(crate) type Row = (Box<[u8]>, Box<[u8]>);

/// An open intent: its number and its record.
type NumberedIntent = (u64, Box<[u8]>);

fn decode_checkpoint((key, note): &Row) -> Result<(TreeSize, String), StoreError> {
    let size = layout::u64_of(key, Family::Checkpoints)?;
    let note = String::from_utf8(note.to_vec()).map_err(|_| BadShape(Family::Checkpoints))?;
    Ok((TreeSize(size), note))
}

/// One batch while it is put together.
pub(crate) struct Writes<'a> {
    store: &'a Store,
    batch: WriteBatch,
}

impl Writes<'_> {
    fn put(&mut self, family: Family, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.batch.put_cf(self.store.family(family)?, key, value);
        Ok(())
    }

    pub(crate) fn genesis(&mut self, origin: &str) -> Result<(), StoreError> {
        self.put(Family::Meta, layout::META_FORMAT, &layout::FORMAT.to_be_bytes())?;
        self.put(Family::Meta, layout::META_ORIGIN, origin.as_bytes())
    }

    pub(crate) fn leaf(&mut self, index: LeafIndex, leaf: &[u8]) -> Result<(), StoreError> {
        self.put(Family::Entries, &index.0.to_be_bytes(), leaf)
    }

    pub(crate) fn tile(&mut self, tile: &FullTile) -> Result<(), StoreError> {
        let bytes = chancery_format::tile::encode_tile(&tile.hashes);
        self.put(Family::Tiles, &layout::tile_key(tile.level, tile.index), &bytes)
    }

    /// The stream's new head, and the indices of its events in this batch from `first_seq` on.
    pub(crate) fn stream(
        &mut self,
        stream: &StreamName,
        head: &StreamHead,
        first_seq: u64,
        indices: &[LeafIndex],
    ) -> Result<(), StoreError> {
        self.put(Family::Streams, stream.as_str().as_bytes(), &head.encode())?;
        let key = layout::pair_key(head.number, first_seq);
        self.put(Family::StreamIndex, &key, &layout::encode_run(indices))
    }

    pub(crate) fn replay(&mut self, id: ReplayId, record: &ReplayRecord) -> Result<(), StoreError> {
        self.put(Family::Replay, &id.0.0, &record.encode())
    }

    pub(crate) fn event_id(&mut self, id: &str, index: LeafIndex) -> Result<(), StoreError> {
        self.put(Family::EventIds, id.as_bytes(), &index.0.to_be_bytes())
    }

    pub(crate) fn open_intent(&mut self, number: u64, record: &[u8]) -> Result<(), StoreError> {
        self.put(Family::Intents, &number.to_be_bytes(), record)
    }

    pub(crate) fn close_intent(&mut self, number: u64) -> Result<(), StoreError> {
        self.batch.delete_cf(self.store.family(Family::Intents)?, number.to_be_bytes());
        Ok(())
    }

    pub(crate) fn checkpoint(&mut self, size: TreeSize, note: &str) -> Result<(), StoreError> {
        self.put(Family::Checkpoints, &size.0.to_be_bytes(), note.as_bytes())
    }

    pub(crate) fn witnessed(&mut self, size: TreeSize, note: &str) -> Result<(), StoreError> {
        self.put(Family::Witnessed, &size.0.to_be_bytes(), note.as_bytes())
    }

    pub(crate) fn registry(&mut self, version: u64, json: &[u8], note: &str) -> Result<(), StoreError> {
        self.put(Family::Registry, &version.to_be_bytes(), &layout::encode_registry(json, note))
    }

    pub(crate) fn chain_head(&mut self, name: &HeadName, head: &Head) -> Result<(), StoreError> {
        self.put(Family::Heads, name.as_str().as_bytes(), &layout::encode_chain_head(head))
    }

    /// Nothing is stored of heads, nor of where keys were used.
    pub(crate) fn forget_heads(&mut self) -> Result<(), StoreError> {
        for family in [Family::Heads, Family::KeyUses] {
            // Names are ASCII: none begins with this.
            self.batch.delete_range_cf(self.store.family(family)?, [].as_slice(), [0xFF].as_slice());
        }
        self.batch.delete_cf(self.store.family(Family::Meta)?, layout::META_HEADS);
        Ok(())
    }

    pub(crate) fn heads_at(&mut self, size: TreeSize, index: Option<LeafIndex>) -> Result<(), StoreError> {
        self.put(Family::Meta, layout::META_HEADS, &layout::encode_heads_at(size, index))
    }

    pub(crate) fn cose_head(&mut self, head: &VerifiedCoseHead) -> Result<(), StoreError> {
        self.put(Family::Meta, layout::META_COSE_HEAD, &head.to_receipt().to_bytes())
    }

    /// The row that has this use of a key, whole.
    pub(crate) fn key_uses(
        &mut self,
        name: &HeadName,
        number: u64,
        run: &[LeafIndex],
    ) -> Result<(), StoreError> {
        self.put(Family::KeyUses, &layout::key_uses_key(name, number), &layout::encode_run(run))
    }

    pub(crate) fn epoch(&mut self, epoch: u64, size: TreeSize) -> Result<(), StoreError> {
        self.put(Family::Archive, &epoch.to_be_bytes(), &size.0.to_be_bytes())
    }

    pub(crate) fn head(&mut self, head: TreeHead, streams: u64) -> Result<(), StoreError> {
        self.put(Family::Meta, layout::META_HEAD, &layout::encode_head(head, streams))
    }
}

/// Options of the whole database.
fn database_options(create: bool, limits: &RollLimits) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_error_if_exists(create);
    options.set_db_write_buffer_size(limits.write_buffer_bytes);
    // Families that are hardly written must not pin old log files.
    options.set_max_total_wal_size(2 * limits.write_buffer_bytes as u64);
    options.set_recycle_log_file_num(2);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_open_files(limits.open_files_max);
    options.set_max_background_jobs(2);
    // One writer: cheaper memtable inserts.
    options.set_allow_concurrent_memtable_write(false);
    // Spreads write-back of table files, so that a log sync does not wait behind a flush.
    options.set_bytes_per_sync(1 << 20);
    // Of each file a compaction reads; the default of 2 MiB makes the first large one show in memory.
    options.set_compaction_readahead_size(256 << 10);
    // Our own log says what matters; RocksDB's stays small.
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_max_manifest_file_size(4 << 20);
    options
}

/// Options of one family.
fn family_options(family: Family, limits: &RollLimits, cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_compression_type(rocksdb::DBCompressionType::None);
    let share = match family {
        Family::Entries => 2,
        Family::Tiles | Family::StreamIndex | Family::Replay | Family::EventIds => 4,
        _ => 8,
    };
    options.set_write_buffer_size(limits.write_buffer_bytes / share);
    options.set_target_file_size_base(32 << 20);
    if matches!(family, Family::Replay | Family::EventIds | Family::Streams) {
        // Most look-ups here find nothing.
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.05);
    }
    options.set_block_based_table_factory(&table_options(family, cache));
    options
}

/// Layout of table files: everything a table keeps in memory is in the one bounded cache.
fn table_options(family: Family, cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_block_size(match family {
        Family::Entries | Family::Tiles => 16 << 10,
        _ => 4 << 10,
    });
    if matches!(family, Family::Replay | Family::EventIds | Family::Streams) {
        table.set_bloom_filter(10.0, false);
        table.set_partition_filters(true);
    }
    table
}
