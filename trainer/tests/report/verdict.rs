//! The verdict: sentences that follow from intervals.

use xprompt_trainer::report;
use xprompt_trainer::summary::{End, Summary};

use crate::sample::{Sample, set_differences, set_over_random};

fn verdict(summary: &Summary) -> String {
    report::verdict(summary).join("\n")
}

const ABOVE: (f64, f64) = (0.012, 0.05);
const BELOW: (f64, f64) = (-0.05, -0.012);
const AROUND: (f64, f64) = (-0.02, 0.04);

#[test]
fn an_interval_says_better_worse_or_that_no_difference_shows() {
    let cases = [
        (ABOVE, "XPrompt is better on test", "+3.1 points (95 % interval +1.2 to +5.0)"),
        (BELOW, "XPrompt is worse on test", "−3.1 points (95 % interval −5.0 to −1.2)"),
        (
            AROUND,
            "XPrompt makes no difference that these data show on test",
            "+1.0 points (95 % interval −2.0 to +4.0)",
        ),
        ((0.0, 0.04), "XPrompt makes no difference that these data show", "(95 % interval 0.0 to +4.0)"),
    ];
    for (interval, want, numbers) in cases {
        let mut summary = Sample::default().summary();
        set_differences(&mut summary, Some(interval), Some(interval));
        for (sentence, against) in report::verdict(&summary)
            .iter()
            .zip(["Against plain prompt tuning, ", "Against tuning on for the same steps without a mask, "])
        {
            assert!(sentence.starts_with(&format!("{against}{want}")), "{sentence}");
            assert!(sentence.contains(numbers), "{sentence}");
        }
    }
}

#[test]
fn a_gain_is_credited_to_pruning_only_if_it_beats_the_unmasked_continuation() {
    let says = |over_tuned, over_continued| {
        let mut summary = Sample::default().summary();
        set_differences(&mut summary, Some(over_tuned), Some(over_continued));
        verdict(&summary)
    };
    let credit = "Pruning adds to what training on gives by itself.";
    let no_credit = "The gain over plain prompt tuning is no more than what training on gives by itself";
    assert!(says(ABOVE, ABOVE).contains(credit));
    assert!(says(ABOVE, AROUND).contains(no_credit));
    assert!(says(ABOVE, BELOW).contains("Training on without a mask gains more than pruning does."));
    for over_continued in [ABOVE, AROUND, BELOW] {
        let nothing_gained = says(AROUND, over_continued);
        assert!(!nothing_gained.contains(credit) && !nothing_gained.contains(no_credit));
    }
}

#[test]
fn importance_is_judged_against_a_random_mask() {
    let cases = [
        (ABOVE, "is better on test", "score chooses better than chance on these data."),
        (BELOW, "is worse on test", "score chooses worse than chance on these data."),
        (
            AROUND,
            "makes no difference that these data show on test",
            "score chooses no better than chance, as far as these data show.",
        ),
    ];
    for (interval, outcome, choice) in cases {
        let mut summary = Sample::default().summary();
        set_over_random(&mut summary, interval);
        let said = verdict(&summary);
        assert!(
            said.contains(&format!("Against a random mask of the same size, XPrompt {outcome}: accuracy ")),
            "{said}"
        );
        assert!(said.contains(choice), "{said}");
    }
    assert!(!verdict(&Sample::small().summary()).contains("importance score"), "there is no random mask");
}

#[test]
fn the_verdict_rests_on_test_else_on_what_was_held_back() {
    let on = |splits: &[&'static str]| {
        let sample = Sample { splits: splits.to_vec(), ..Sample::default() };
        verdict(&sample.summary())
    };
    let flatter = "Nothing was held back";
    assert!(on(&["choose", "report", "test"]).contains(" on test: accuracy "));
    let held_back = on(&["choose", "report"]);
    assert!(held_back.contains(" on the part of dev held back: ") && !held_back.contains(flatter));
    let chosen_by = on(&["choose"]);
    assert!(
        chosen_by.contains(" on the part of dev that choices were made by: ") && chosen_by.contains(flatter)
    );
}

#[test]
fn without_the_continuation_the_gain_is_called_unexplained() {
    let mut summary = Sample::default().summary();
    assert!(!verdict(&summary).contains("was not run"));
    summary.table.retain(|arm| arm.name != "continued");
    set_differences(&mut summary, Some(ABOVE), None);
    let verdict = verdict(&summary);
    assert!(
        verdict.contains(
            "The unmasked continuation was not run: a gain over plain prompt tuning cannot be told"
        )
    );
    assert!(!verdict.contains("Against tuning on"));
}

#[test]
fn what_is_saved_is_told_in_tokens_pieces_and_bytes() {
    let mut summary = Sample::default().summary();
    assert!(
        verdict(&summary).contains(
            "XPrompt keeps 8 of 20 tokens and 64 of 320 pieces on average over seeds: 20.0 % of the parameters; 4.1 kB \
             instead of 20.5 kB."
        ),
        "{}",
        verdict(&summary)
    );
    (summary.table[5].tokens, summary.table[5].bytes) = (7.25, 3000.0);
    let said = verdict(&summary);
    assert!(
        said.contains("keeps 7.2 of 20 tokens") && said.contains("; 3.0 kB instead of 20.5 kB."),
        "{said}"
    );
}

#[test]
fn a_first_stage_that_had_not_converged_is_warned_of() {
    let mut summary = Sample::default().summary();
    assert!(verdict(&summary).contains("Stage one had stopped improving in every seed"));
    for seed in [1, 3] {
        summary.seeds[seed].arms[1].training.as_mut().unwrap().end = End::StepLimit;
    }
    let warned = verdict(&summary);
    assert!(
        warned.contains(
            "Stage one had not converged in 2 of 5 seeds (43, 45): every later stage may look good"
        )
    );
    assert!(!warned.contains("stopped improving in every seed"));
    summary.seeds.iter_mut().for_each(|seed| seed.arms[1].training = None);
    assert!(verdict(&summary).contains("Whether stage one had converged is not in the summary."));
    let one = Sample { end: End::StepLimit, ..Sample::small() };
    assert!(verdict(&one.summary()).contains("Stage one had not converged: every later stage"));
}

#[test]
fn selection_bias_is_where_chosen_less_held_back_over_seeds() {
    let mut summary = Sample { seeds: 2, ..Sample::default() }.summary();
    for (seed, (choose, report)) in summary.seeds.iter_mut().zip([(0.9, 0.85), (0.8, 0.79)]) {
        seed.trials.retain(|trial| trial.level == "piece");
        for trial in &mut seed.trials {
            // all other ratios do as well on both parts
            (trial.choose, trial.report) =
                if trial.chosen { (choose, Some(report)) } else { (0.7, Some(0.7)) };
        }
    }
    let said = verdict(&summary);
    assert!(
        said.contains("reach 85.0 % where they were chosen and 82.0 % on the part of dev held back"),
        "{said}"
    );
    // of two times nine trials, two differ by 6 points in sum
    assert!(
        said.contains("+3.0 points on average; over all ratios tried the two parts differ by +0.3."),
        "{said}"
    );
    summary.seeds.iter_mut().flat_map(|seed| &mut seed.trials).for_each(|trial| trial.report = None);
    assert!(!verdict(&summary).contains("Selection bias"));
}

#[test]
fn a_prompt_that_does_not_beat_the_most_frequent_label_is_told() {
    let mut summary = Sample::default().summary();
    assert!(verdict(&summary).contains("Always answering the most frequent label would be right in 27.6 %."));
    summary.majority.insert("test".into(), 0.83.into());
    assert!(verdict(&summary).contains("is right in 83.0 %: XPrompt's interval"));
    assert!(!verdict(&Sample::free_text()).contains("most frequent label"));
}

#[test]
fn one_seed_is_said_to_be_one_seed() {
    assert!(
        verdict(&Sample::small().summary()).contains("One seed: the intervals say how much other examples")
    );
    assert!(!verdict(&Sample::default().summary()).contains("One seed"));
}

#[test]
fn a_run_without_an_xprompt_is_not_judged() {
    let mut summary = Sample::default().summary();
    summary.table.retain(|arm| arm.name != "xprompt");
    let said = verdict(&summary);
    assert!(
        said.contains("The run holds no XPrompt: there is nothing to judge.") && !said.contains("Against")
    );
}
