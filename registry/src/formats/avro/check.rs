//! Which data of a writer a reader cannot read: schema resolution as Java's library checks it, with the types and places of
//! what it finds.
//!
//! Where it differs from the specification it is because Java does: names are compared without their namespaces, and of
//! logical types nothing is compared, so that decimals of any precision and scale can be read as one another.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::{Field, Primitive, Schema, Shape, TypeId};
use crate::formats::{Effort, PROBLEMS_MAX, Problem, TooComplex, clipped};

/// What keeps `reader` from reading what `writer` wrote.
pub(crate) fn problems(reader: &Schema, writer: &Schema) -> Result<Vec<Problem>, TooComplex> {
    let mut check = Check { reader, writer, known: HashMap::new(), effort: Effort::default() };
    let found = check.pair(reader.root, writer.root, &Place::Root)?;
    Ok(found.iter().cloned().collect())
}

/// Where a check is, from the root of a schema.
enum Place<'a> {
    Root,
    Below(&'a Place<'a>, &'a str),
}

impl Place<'_> {
    /// As a JSON pointer.
    fn pointer(&self) -> String {
        let mut parts = Vec::new();
        let mut place = self;
        while let Place::Below(above, part) = place {
            parts.push(part.replace('~', "~0").replace('/', "~1"));
            place = above;
        }
        parts.reverse();
        format!("/{}", parts.join("/"))
    }
}

type Found = Rc<Vec<Problem>>;

struct Check<'a> {
    reader: &'a Schema,
    writer: &'a Schema,
    /// What was found for a pair, with the places of when it was; none while it is being looked at, which is taken for
    /// nothing found.
    known: HashMap<(TypeId, TypeId), Option<Found>>,
    effort: Effort,
}

impl Check<'_> {
    fn pair(&mut self, reader: TypeId, writer: TypeId, place: &Place<'_>) -> Result<Found, TooComplex> {
        self.effort.spend(1)?;
        if let Some(known) = self.known.get(&(reader, writer)) {
            return Ok(known.clone().unwrap_or_default());
        }
        self.known.insert((reader, writer), None);
        self.effort.enter()?;
        let mut found = Vec::new();
        self.compare(reader, writer, place, &mut found)?;
        self.effort.leave();
        let found = Rc::new(found);
        self.known.insert((reader, writer), Some(Rc::clone(&found)));
        Ok(found)
    }

    /// [`Check::pair`] that adds to what was found before.
    fn add(
        &mut self,
        reader: TypeId,
        writer: TypeId,
        place: &Place<'_>,
        found: &mut Vec<Problem>,
    ) -> Result<(), TooComplex> {
        let more = self.pair(reader, writer, place)?;
        let left = PROBLEMS_MAX.saturating_sub(found.len());
        for problem in more.iter().take(left) {
            self.effort.copy(problem.path.len() + problem.info.as_ref().map_or(0, String::len))?;
        }
        found.extend(more.iter().take(left).cloned());
        Ok(())
    }

    fn compare(
        &mut self,
        reader_id: TypeId,
        writer_id: TypeId,
        place: &Place<'_>,
        found: &mut Vec<Problem>,
    ) -> Result<(), TooComplex> {
        let (reader, writer) = (self.reader, self.writer);
        match (reader.shape(reader_id), writer.shape(writer_id)) {
            (Shape::Primitive(read), Shape::Primitive(written)) if is_readable(*read, *written) => {}
            (Shape::Array(read), Shape::Array(written)) => {
                self.add(*read, *written, &Place::Below(place, "items"), found)?;
            }
            (Shape::Map(read), Shape::Map(written)) => {
                self.add(*read, *written, &Place::Below(place, "values"), found)?;
            }
            (Shape::Fixed { size: read, .. }, Shape::Fixed { size: written, .. }) => {
                self.compare_names(reader_id, writer_id, place, found);
                if read != written {
                    let info = format!("expected: {written}, found: {read}");
                    found.push(problem("FIXED_SIZE_MISMATCH", &Place::Below(place, "size"), info));
                }
            }
            (Shape::Enum { symbols: read, default, .. }, Shape::Enum { symbols: written, .. }) => {
                self.compare_names(reader_id, writer_id, place, found);
                self.effort.spend(read.len() + written.len())?;
                let read: HashSet<&String> = read.iter().collect();
                let missing: BTreeSet<&str> =
                    written.iter().filter(|symbol| !read.contains(symbol)).map(String::as_str).collect();
                if !missing.is_empty() && default.is_none() {
                    let info = format!("[{}]", missing.into_iter().collect::<Vec<_>>().join(", "));
                    found.push(problem("MISSING_ENUM_SYMBOLS", &Place::Below(place, "symbols"), info));
                }
            }
            (Shape::Record { fields: read, .. }, Shape::Record { fields: written, .. }) => {
                self.compare_names(reader_id, writer_id, place, found);
                self.compare_fields(read, written, writer_id, place, found)?;
            }
            (Shape::Union(_), Shape::Union(branches)) => {
                for (index, branch) in branches.iter().enumerate() {
                    if !self.pair(reader_id, *branch, &Place::Root)?.is_empty() && found.len() < PROBLEMS_MAX {
                        let index = index.to_string();
                        found.push(self.missing_branch(*branch, &Place::Below(place, &index)));
                    }
                }
            }
            // Each branch is checked by itself, and says so with places that begin at the branch.
            (_, Shape::Union(branches)) => {
                for branch in branches {
                    self.add(reader_id, *branch, &Place::Root, found)?;
                }
            }
            (Shape::Union(branches), _) => {
                for branch in branches {
                    if self.pair(*branch, writer_id, &Place::Root)?.is_empty() {
                        return Ok(());
                    }
                }
                found.push(self.missing_branch(writer_id, place));
            }
            _ => found.push(self.type_mismatch(reader_id, writer_id, place)),
        }
        Ok(())
    }

    fn compare_fields(
        &mut self,
        read: &[Field],
        written: &[Field],
        writer_id: TypeId,
        place: &Place<'_>,
        found: &mut Vec<Problem>,
    ) -> Result<(), TooComplex> {
        self.effort.spend(written.len())?;
        let by_name: HashMap<&str, &Field> = written.iter().map(|field| (field.name.as_str(), field)).collect();
        let fields = Place::Below(place, "fields");
        for (index, field) in read.iter().enumerate() {
            self.effort.spend(1 + field.aliases.len())?;
            let index = index.to_string();
            let here = Place::Below(&fields, &index);
            let names = std::iter::once(&field.name).chain(&field.aliases);
            let writes = names.into_iter().find_map(|name| by_name.get(name.as_str()));
            match writes {
                Some(writes) => self.add(field.kind, writes.kind, &Place::Below(&here, "type"), found)?,
                None if field.default.is_some() || found.len() >= PROBLEMS_MAX => {}
                // An enum's own default is no field's: Java says so by comparing it with the record.
                None if matches!(self.reader.shape(field.kind), Shape::Enum { default: Some(_), .. }) => {
                    found.push(self.type_mismatch(field.kind, writer_id, &Place::Below(&here, "type")));
                }
                None => found.push(problem("READER_FIELD_MISSING_DEFAULT_VALUE", &here, field.name.clone())),
            }
        }
        Ok(())
    }

    fn compare_names(&self, reader: TypeId, writer: TypeId, place: &Place<'_>, found: &mut Vec<Problem>) {
        let (Some(reader), Some(writer)) = (self.reader.named(reader), self.writer.named(writer)) else { return };
        if reader.name.name != writer.name.name && !reader.aliases.contains(&writer.name) {
            let info = format!("expected: {}", writer.name.full());
            found.push(problem("NAME_MISMATCH", &Place::Below(place, "name"), info));
        }
    }

    fn missing_branch(&self, writer: TypeId, place: &Place<'_>) -> Problem {
        let info = format!("no branch for {}", self.writer.kind_name(writer));
        problem("MISSING_UNION_BRANCH", place, info)
    }

    fn type_mismatch(&self, reader: TypeId, writer: TypeId, place: &Place<'_>) -> Problem {
        let info = format!("read as {}, written as {}", self.reader.kind_name(reader), self.writer.kind_name(writer));
        problem("TYPE_MISMATCH", place, info)
    }
}

/// Promotions included.
fn is_readable(read: Primitive, written: Primitive) -> bool {
    use Primitive::{Bytes, Double, Float, Int, Long, String};
    read == written
        || matches!(
            (read, written),
            (Long, Int) | (Float, Int | Long) | (Double, Int | Long | Float) | (Bytes, String) | (String, Bytes)
        )
}

fn problem(kind: &'static str, place: &Place<'_>, info: String) -> Problem {
    Problem { kind, path: clipped(place.pointer()), info: Some(clipped(info)), describe }
}

fn describe(problem: &Problem, reader: &str, writer: &str) -> String {
    let Problem { kind, path, info, .. } = problem;
    let info = info.as_deref().unwrap_or_default();
    match *kind {
        "FIXED_SIZE_MISMATCH" => format!("{path}: the {reader} fixed has another size than the {writer} one"),
        "TYPE_MISMATCH" => format!("{path}: the {reader} type cannot be read from data of the {writer} type"),
        "NAME_MISMATCH" => {
            format!("{path}: the {reader} type bears neither the name of the {writer} one nor an alias for it")
        }
        "MISSING_ENUM_SYMBOLS" => {
            format!("{path}: the {reader} enum has no default and lacks these symbols of the {writer} one: {info}")
        }
        "MISSING_UNION_BRANCH" => format!("{path}: no branch of the {reader} union reads this {writer} type"),
        _ => format!("{path}: the {reader} field '{info}' needs a default, as the {writer} record does not write it"),
    }
}
