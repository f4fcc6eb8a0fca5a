//! The error responses of operations, from the codes that they can have.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, Header, Ref, RefOr, Response, ResponseBuilder};

use crate::server::Code;
use crate::server::shape::Shape;

/// Documents an operation's errors: a response for each status, that names the codes with it.
pub(in crate::server) fn errors(codes: &[Code], shape: Shape) -> BTreeMap<String, RefOr<Response>> {
    let (kind, schema) = shape.described();
    let mut by_status: BTreeMap<String, Vec<Code>> = BTreeMap::new();
    for &code in codes {
        by_status.entry(code.status().as_u16().to_string()).or_default().push(code);
    }
    let response = |(status, codes): (String, Vec<Code>)| {
        let names: Vec<String> = codes.iter().map(|code| format!("`{}`", code.name())).collect();
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
        let mut response =
            ResponseBuilder::new().description(names.join(", ")).content(kind, content).build();
        if codes.iter().any(|code| code.retry_after().is_some()) {
            let mut header = Header::default();
            header.description = Some("Seconds after which the same request may succeed.".into());
            response.headers.insert("Retry-After".into(), header.into());
        }
        (status, RefOr::T(response))
    };
    by_status.into_iter().map(response).collect()
}

/// Makes a type that documents the problem documents of an operation.
macro_rules! problems {
    ($name:ident: $($code:ident),* $(,)?) => {
        $crate::server::openapi::errors_as!($name, Problem: $($code),*);
    };
}

/// Makes a type that documents an operation's errors in a shape of their own.
macro_rules! errors_as {
    ($name:ident, $shape:ident: $($code:ident),* $(,)?) => {
        /// The errors of an operation.
        pub(in crate::server) struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses()
            -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                use $crate::server::Code;
                $crate::server::openapi::errors(&[$(Code::$code),*], $crate::server::shape::Shape::$shape)
            }
        }
    };
}

pub(in crate::server) use {errors_as, problems};
