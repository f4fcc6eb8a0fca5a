//! Tasks whose rows need no more than a name for their label: BoolQ, CB, COPA, RTE, WiC.

use serde_json::{Map, Value};

use super::fields::Fields;
use super::{FlatRow, LABEL};

/// The row as it is, cut down to its `texts` and its label.
pub(super) fn expand(
    row: &Fields<'_>,
    texts: &[&str],
    label: impl Fn(&Fields<'_>) -> Result<Option<String>, String>,
) -> Result<Vec<FlatRow>, String> {
    let mut fields = Map::new();
    for &name in texts {
        fields.insert(name.into(), row.text(name)?.into());
    }
    Ok(vec![flat(fields, label(row)?, row)])
}

/// A flat row for the original `row`.
pub(super) fn flat(mut fields: Map<String, Value>, label: Option<String>, row: &Fields<'_>) -> FlatRow {
    fields.extend(label.map(|label| (LABEL.into(), label.into())));
    FlatRow { fields, accepted: Vec::new(), group: None, id: row.get("idx").cloned().unwrap_or_default() }
}

/// `False` or `True`.
pub(super) fn truth(row: &Fields<'_>) -> Result<Option<String>, String> {
    Ok(row.truth(LABEL)?.map(|truth| if truth { "True" } else { "False" }.into()))
}

/// `choice1` for 0, `choice2` for 1.
pub(super) fn choice(row: &Fields<'_>) -> Result<Option<String>, String> {
    Ok(row.truth(LABEL)?.map(|second| if second { "choice2" } else { "choice1" }.into()))
}

/// A label that is a name already.
pub(super) fn one_of(row: &Fields<'_>, names: &[&str]) -> Result<Option<String>, String> {
    let Some(label) = row.get(LABEL) else { return Ok(None) };
    match names.iter().find(|&&name| label == name) {
        Some(&name) => Ok(Some(name.into())),
        None => Err(row.wrong(LABEL, &format!("is {label}; it has to be one of {}", names.join(", ")))),
    }
}
