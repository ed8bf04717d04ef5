//! The defects of a report as tables for other programs: CSV and Parquet. Both are read from `defects.jsonl`, some defects at a time.
//!
//! Parquet is written column by column: its crate does that without arrow, which is larger than all else here.

use std::{io::Write, path::Path, sync::Arc};

use parquet::{
    basic::{LogicalType, Repetition, Type as Physical},
    column::writer::ColumnWriterImpl,
    data_type::{ByteArrayType, DataType, DoubleType, FloatType, Int64Type},
    errors::{ParquetError, Result as ParquetResult},
    file::writer::{SerializedFileWriter, SerializedRowGroupWriter},
    schema::types::{Type, TypePtr},
};

use super::{defect::Defect, ledger};
use crate::{
    files::write_whole_with,
    outcome::{Failure, Outcome},
};

/// Defects that are held at once.
const ROWS: usize = 50_000;

/// Writes the defects in the file `from` to `path` as CSV, with a row of names.
pub(super) fn write_csv(from: &Path, path: &Path) -> Outcome {
    write_whole_with(path, |file| {
        let mut writer = csv::Writer::from_writer(file);
        let failed = |e: csv::Error| Failure::wrong_file(path, &e);
        let mut rows = 0;
        for defect in ledger::read(from)? {
            writer.serialize(defect?).map_err(failed)?;
            rows += 1;
        }
        if rows == 0 {
            let names = COLUMNS.iter().map(|column| column.name);
            writer.write_record(names).map_err(failed)?;
        }
        writer.flush().map_err(Failure::io(path))
    })
}

/// Writes the defects in the file `from` to `path` as Parquet.
pub(super) fn write_parquet(from: &Path, path: &Path) -> Outcome {
    write_whole_with(path, |file| {
        let failed = |e: ParquetError| Failure::wrong_file(path, &e);
        let schema = schema().map_err(failed)?;
        let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).map_err(failed)?;
        let mut defects = ledger::read(from)?;
        loop {
            let group: Vec<_> = defects.by_ref().take(ROWS).collect::<Outcome<_>>()?;
            if group.is_empty() {
                break;
            }
            let rows = writer.next_row_group().map_err(failed)?;
            write_group(rows, &group).map_err(failed)?;
        }
        writer.close().map_err(failed)?;
        Ok(())
    })
}

/// A column: its name, and where its values are in a defect.
struct Column {
    name: &'static str,
    values: Values,
}

/// How a defect's value is had.
enum Values {
    Whole(fn(&Defect) -> i64),
    Float(fn(&Defect) -> f32),
    Text(fn(&Defect) -> &str),
    MaybeDouble(fn(&Defect) -> Option<f64>),
    MaybeText(fn(&Defect) -> Option<&str>),
}

macro_rules! columns {
    ($($kind:ident $name:ident = $value:expr;)*) => {
        &[$(Column { name: stringify!($name), values: Values::$kind($value) }),*]
    };
}

/// In the order of [`Defect`]'s fields. No strip has so many lines that a signed number cannot hold them.
const COLUMNS: &[Column] = columns! {
    Whole id = |defect| defect.id as i64;
    Text source = |defect| &defect.source;
    Whole line = |defect| defect.line as i64;
    Whole last_line = |defect| defect.last_line as i64;
    Whole x = |defect| defect.x.into();
    Whole w = |defect| defect.w.into();
    Whole h = |defect| defect.h as i64;
    Float score = |defect| defect.score;
    Whole area = |defect| defect.area as i64;
    Whole worst_x = |defect| defect.worst_x.into();
    Whole worst_line = |defect| defect.worst_line as i64;
    MaybeDouble position_mm = |defect| defect.position_mm;
    MaybeDouble length_mm = |defect| defect.length_mm;
    MaybeDouble width_mm = |defect| defect.width_mm;
    Text model = |defect| &defect.model;
    Text class_name = |defect| &defect.class_name;
    Float threshold = |defect| defect.threshold;
    MaybeText crop = |defect| defect.crop.as_deref();
};

fn schema() -> ParquetResult<TypePtr> {
    let fields = COLUMNS.iter().map(|column| {
        let (physical, logical) = match column.values {
            Values::Whole(_) => (Physical::INT64, None),
            Values::Float(_) => (Physical::FLOAT, None),
            Values::MaybeDouble(_) => (Physical::DOUBLE, None),
            Values::Text(_) | Values::MaybeText(_) => {
                (Physical::BYTE_ARRAY, Some(LogicalType::String))
            }
        };
        let may_lack = matches!(column.values, Values::MaybeDouble(_) | Values::MaybeText(_));
        let repetition = if may_lack {
            Repetition::OPTIONAL
        } else {
            Repetition::REQUIRED
        };
        let field = Type::primitive_type_builder(column.name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical);
        Ok(Arc::new(field.build()?))
    });
    let fields = fields.collect::<ParquetResult<_>>()?;
    let schema = Type::group_type_builder("defects").with_fields(fields);
    Ok(Arc::new(schema.build()?))
}

fn write_group<W: Write + Send>(
    mut rows: SerializedRowGroupWriter<'_, W>,
    defects: &[Defect],
) -> ParquetResult<()> {
    for column in COLUMNS {
        let wrong = || ParquetError::General(format!("{}: no such column", column.name));
        let mut writer = rows.next_column()?.ok_or_else(wrong)?;
        match &column.values {
            Values::Whole(of) => write_all::<Int64Type>(writer.typed(), defects, |d| Some(of(d))),
            Values::Float(of) => write_all::<FloatType>(writer.typed(), defects, |d| Some(of(d))),
            Values::Text(of) => {
                write_all::<ByteArrayType>(writer.typed(), defects, |d| Some(of(d).into()))
            }
            Values::MaybeDouble(of) => write_all::<DoubleType>(writer.typed(), defects, of),
            Values::MaybeText(of) => {
                write_all::<ByteArrayType>(writer.typed(), defects, |d| of(d).map(Into::into))
            }
        }?;
        writer.close()?;
    }
    rows.close().map(drop)
}

/// Writes a column. Where it may lack values, each row says whether it has one.
fn write_all<T: DataType>(
    writer: &mut ColumnWriterImpl<'_, T>,
    defects: &[Defect],
    value: impl Fn(&Defect) -> Option<T::T>,
) -> ParquetResult<()> {
    let all: Vec<Option<T::T>> = defects.iter().map(value).collect();
    let levels: Vec<i16> = all.iter().map(|value| value.is_some().into()).collect();
    let may_lack = writer.get_descriptor().max_def_level() > 0;
    let values: Vec<T::T> = all.into_iter().flatten().collect();
    let levels = may_lack.then_some(&levels[..]);
    writer.write_batch(&values, levels, None).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::RowAccessor,
    };

    use super::*;
    use crate::scan::ledger::{Ledger, tests::defect};

    /// A folder with that many defects.
    fn folder(defects: u64) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&folder.path().join("defects.jsonl"), 0).unwrap();
        (1..=defects).for_each(|id| ledger.push(&defect(id)).unwrap());
        ledger.end_strip().unwrap();
        folder
    }

    #[test]
    fn a_table_in_csv_has_every_field_by_its_name() {
        for count in [0, 4] {
            let folder = folder(count);
            let path = folder.path().join("defects.csv");
            write_csv(&folder.path().join("defects.jsonl"), &path).unwrap();
            let mut reader = csv::Reader::from_path(&path).unwrap();
            let names: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
            assert_eq!(reader.headers().unwrap(), names);
            let read: Vec<Defect> = reader.deserialize().map(Result::unwrap).collect();
            assert_eq!(read, (1..=count).map(defect).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_table_in_parquet_has_every_field_and_knows_what_is_missing() {
        let folder = folder(4);
        let path = folder.path().join("defects.parquet");
        write_parquet(&folder.path().join("defects.jsonl"), &path).unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        let rows: Vec<_> = reader.into_iter().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 4);
        for (row, id) in rows.iter().zip(1..) {
            let wanted = defect(id);
            assert_eq!(row.get_long(0).unwrap(), id as i64);
            assert_eq!(row.get_string(1).unwrap(), &wanted.source);
            assert_eq!(row.get_float(7).unwrap(), wanted.score);
            assert_eq!(row.get_double(11).ok(), wanted.position_mm);
            assert_eq!(row.get_string(17).ok(), wanted.crop.as_ref());
        }
    }

    #[test]
    fn a_table_without_defects_can_be_read() {
        let folder = folder(0);
        let path = folder.path().join("defects.parquet");
        write_parquet(&folder.path().join("defects.jsonl"), &path).unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
    }
}
