//! Where the time went.

use maud::html;

use super::number;
use super::page::{Section, scroll};
use super::size::bar;
use super::view::View;

/// The section; none if no time was taken.
pub(super) fn section(view: &View<'_>) -> Option<Section> {
    let (times, all) = (&view.summary.times, view.summary.seconds);
    if times.is_empty() {
        return None;
    }
    let table = html! {
        table.bars.times {
            thead { tr { th scope="col" { "Part" } th scope="col" { "Wall time" } } }
            tbody {
                @for time in times {
                    tr {
                        th scope="row" { (time.part) }
                        td { (bar(&number::duration(time.seconds), time.seconds / all)) }
                    }
                }
                tr.total { th scope="row" { "The whole run" } td { (bar(&number::duration(all), 1.0)) } }
            }
        }
    };
    Some(Section {
        id: "times",
        title: "Wall time",
        body: html! {
            p.note { "On " (view.summary.device) ", over all sittings, all seeds, and all tasks that trained side by side with this "
                "one." }
            (scroll("Wall time of each part", &table))
        },
    })
}
