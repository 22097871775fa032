//! JSON Schema, drafts 4 to 7, 2019-09 and 2020-12.
//!
//! In reading order: the model here, `load` (from JSON to the model, with references), `check` (the differences), and under
//! it `objects` and `arrays`.
//!
//! The model is that of the validators that the protocol's words come from: a schema is of one kind, and one that says things
//! of several kinds is an `allOf` of them. What decides nothing for compatibility there decides nothing here: `format`,
//! `contains`, what stands in `if`, `then` and `else`.

mod arrays;
mod check;
mod load;
mod objects;

use std::collections::{BTreeSet, HashSet};

use indexmap::IndexMap;
use regex::Regex;

use crate::formats::{Invalid, Referenced};
use crate::json::Json;

pub(crate) use self::check::problems;

/// Where a node is in [`Schema::nodes`].
type NodeId = usize;

/// A parsed schema with all that it refers to.
#[derive(Debug)]
pub(crate) struct Schema {
    source: Json,
    nodes: Vec<Node>,
    root: NodeId,
}

/// A schema within a schema.
#[derive(Debug)]
struct Node {
    shape: Shape,
    has_default: bool,
}

#[derive(Debug)]
enum Shape {
    /// Lets everything through.
    Anything,
    /// Lets nothing through.
    Nothing,
    Text {
        min: Option<f64>,
        max: Option<f64>,
        pattern: Option<String>,
    },
    Number(Box<Number>),
    Boolean,
    Null,
    Enum(Vec<Json>),
    Const(Json),
    Not(NodeId),
    /// `if`, with or without the rest.
    Conditional,
    Combined {
        how: How,
        parts: Vec<NodeId>,
    },
    Object(Box<Object>),
    Array(Box<Array>),
    Reference(NodeId),
}

/// How parts are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    All,
    Any,
    One,
}

impl How {
    const fn name(self) -> &'static str {
        match self {
            Self::All => "allOf",
            Self::Any => "anyOf",
            Self::One => "oneOf",
        }
    }
}

#[derive(Debug, Default)]
struct Number {
    is_integer: bool,
    min: Option<f64>,
    max: Option<f64>,
    above: Option<f64>,
    below: Option<f64>,
    multiple_of: Option<f64>,
}

#[derive(Debug, Default)]
struct Object {
    properties: IndexMap<String, NodeId>,
    required: HashSet<String>,
    /// A pattern that cannot be read matches nothing.
    patterns: Vec<(Option<Regex>, NodeId)>,
    additional: Rest,
    unevaluated: Option<NodeId>,
    min: Option<f64>,
    max: Option<f64>,
    needed_properties: IndexMap<String, BTreeSet<String>>,
    needed_schemas: IndexMap<String, NodeId>,
}

#[derive(Debug, Default)]
struct Array {
    /// Of each item.
    all: Option<NodeId>,
    /// Of the first, second, … item.
    items: Vec<NodeId>,
    additional: Rest,
    unevaluated: Option<NodeId>,
    min: Option<f64>,
    max: Option<f64>,
    min_contains: Option<f64>,
    max_contains: Option<f64>,
    is_unique: bool,
}

/// What is let through of that which is not named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Rest {
    #[default]
    Anything,
    Nothing,
    Of(NodeId),
}

impl Schema {
    /// Reads a schema.
    pub(crate) fn parse(text: &str, references: &[Referenced]) -> Result<Self, Invalid> {
        let source = Json::parse(text).map_err(|error| Invalid::new(error.to_string()))?;
        let (nodes, root) = load::load(&source, references)?;
        Ok(Self { source, nodes, root })
    }

    /// Without white space.
    pub(crate) fn canonical(&self) -> String {
        self.source.to_string()
    }

    /// With members sorted by name.
    pub(crate) fn normalized(&self) -> String {
        self.source.sorted().to_string()
    }

    /// Whether the object at the top names a property.
    pub(crate) fn has_property(&self, name: &str) -> bool {
        match self.shape(self.root) {
            Shape::Object(object) => object.properties.contains_key(name),
            _ => false,
        }
    }

    /// The shape of a node, through references; those that only lead to one another let everything through.
    fn shape(&self, id: NodeId) -> &Shape {
        &self.nodes[self.target(id)].shape
    }

    fn target(&self, mut id: NodeId) -> NodeId {
        for _ in 0..REFERENCES_MAX {
            match self.nodes[id].shape {
                Shape::Reference(target) => id = target,
                _ => return id,
            }
        }
        ANYTHING
    }
}

/// How many references in a row are followed.
const REFERENCES_MAX: usize = 100;
/// The node that lets everything through is always there.
const ANYTHING: NodeId = 0;
