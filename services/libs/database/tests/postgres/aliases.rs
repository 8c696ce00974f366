//! Aliases: the gate, rollback and history.

use perito_database::{ErrorKind, Gate, NewModel, Promotion};
use perito_domain::aliases::AliasAction;

use crate::world::{World, forced, new_model, promotion, signature};

#[tokio::test]
async fn models_get_versions_and_aliases_move() {
    let world = World::new().await;
    assert_eq!(world.model("m").await.reference(), "m@1");
    assert_eq!(world.model("m").await.reference(), "m@2");
    // The first holder has nobody to be compared with.
    let first = world.db.promote(&promotion("m", 1, "production")).await.unwrap();
    assert_eq!(first.aliases, ["production"]);
    world.force("m", 2, "production").await;
    assert_eq!(world.db.model(&"m@production".parse().unwrap()).await.unwrap().version, 2);
    assert!(world.db.model(&"m@1".parse().unwrap()).await.unwrap().aliases.is_empty());
    let missing = world.db.model(&"m@staging".parse().unwrap()).await.unwrap_err().to_string();
    assert!(missing.contains("production") && missing.contains('2'), "says what there is: {missing}");
    let backbone = NewModel { class_names: Vec::new(), ..new_model("backbone") };
    world.db.register_model(&backbone).await.unwrap();
    let refused = world.db.promote(&promotion("backbone", 1, "production")).await.unwrap_err();
    assert!(refused.to_string().contains("--weights"), "{refused}");
}

#[tokio::test]
async fn the_gate_wants_measurements_and_says_how_to_make_them() {
    let world = World::new().await;
    let dataset = world.dataset("d", 30).await;
    world.model("m").await;
    world.model("m").await;
    world.db.promote(&promotion("m", 1, "production")).await.unwrap();
    let refused = world.db.promote(&promotion("m", 2, "production")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("perito evaluate m@2 --dataset d@1 --split validation"), "{refused}");
    world.evaluate("m@2", &dataset, |_| true).await;
    let refused = world.db.promote(&promotion("m", 2, "production")).await.unwrap_err().to_string();
    assert!(refused.contains("perito evaluate m@1 --dataset d@1"), "{refused}");
    // An imported model was trained on no dataset that could be taken instead.
    let nameless = Promotion {
        gate: Gate { dataset: None, ..promotion("m", 2, "production").gate },
        ..promotion("m", 2, "production")
    };
    let refused = world.db.promote(&nameless).await.unwrap_err().to_string();
    assert!(refused.contains("--dataset") && refused.contains("--force"), "{refused}");
    assert_eq!(world.number("select count(*) from alias_moves").await, 1, "refusals move nothing");
}

#[tokio::test]
async fn a_worse_version_is_refused_beyond_the_margin_unless_forced_with_a_reason() {
    let world = World::new().await;
    let dataset = world.dataset("d", 30).await;
    for wrong in [3, 4, 9] {
        let model = world.model("m").await.reference();
        world.evaluate(&model, &dataset, move |place| place >= wrong).await;
    }
    world.db.promote(&promotion("m", 1, "production")).await.unwrap();
    // 26 of 30 against 27 of 30: one image in thirty is within a margin of 0.05.
    let margin = |margin| Gate { margin, ..promotion("m", 2, "production").gate };
    let refused = world.db.promote(&promotion("m", 2, "production")).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Conflict && refused.to_string().contains("macro F1"), "{refused}");
    world.db.promote(&Promotion { gate: margin(0.05), ..promotion("m", 2, "production") }).await.unwrap();
    // Back to the better one: no margin is needed.
    world.db.promote(&Promotion { gate: margin(0.0), ..promotion("m", 1, "production") }).await.unwrap();

    let gate = Gate { force: true, ..promotion("m", 3, "production").gate };
    let mut silent = Promotion { gate, ..promotion("m", 3, "production") };
    silent.signature.reason = None;
    assert_eq!(world.db.promote(&silent).await.unwrap_err().kind(), ErrorKind::Invalid);
    silent.signature = signature("the other one fails on trucks");
    world.db.promote(&silent).await.unwrap();

    let history = world.db.alias_history(&"m".parse().unwrap(), None).await.unwrap();
    let steps: Vec<_> = history.iter().map(|step| (step.from_version, step.to_version, step.forced)).collect();
    assert_eq!(steps, [(Some(1), 3, true), (Some(2), 1, false), (Some(1), 2, false), (None, 1, false)]);
    assert_eq!(history[0].reason.as_deref(), Some("the other one fails on trucks"));
    assert_eq!(history[0].moved_by.as_deref(), Some("ana"));
    let check = history[0].check.as_ref().unwrap();
    assert!(check.dataset == "d@1" && check.macro_f1 < check.former_macro_f1, "{check:?}");
    assert!(history[3].check.is_none(), "the first holder was compared with nobody");
    // What analysts see is the same.
    let shown = "select count(*) from analytics.alias_history where moved_by = 'ana' and (forced = (to_version = 3))";
    assert_eq!(world.number(shown).await, 4);
    assert_eq!(world.number("select count(*) from analytics.alias_history where held_until is null").await, 1);
}

#[tokio::test]
async fn pointing_where_it_points_is_no_move() {
    let world = World::new().await;
    world.model("m").await;
    for _ in 0..2 {
        world.db.promote(&promotion("m", 1, "production")).await.unwrap();
    }
    assert_eq!(world.number("select count(*) from alias_moves").await, 1);
}

#[tokio::test]
async fn a_rollback_goes_to_the_former_holder_and_is_recorded() {
    let world = World::new().await;
    let (name, production) = ("m".parse().unwrap(), "production".parse().unwrap());
    for version in 1..=3 {
        world.model("m").await;
        world.force("m", version, "production").await;
    }
    let back = async |seen| world.db.roll_back(&name, &production, seen, &signature("worse in the field")).await;
    assert_eq!(back(Some(3)).await.unwrap().reference(), "m@2");
    // The same request sent twice.
    let again = back(Some(3)).await.unwrap_err();
    assert!(again.kind() == ErrorKind::Conflict && again.to_string().contains("points to version 2"), "{again}");
    assert_eq!(back(None).await.unwrap().reference(), "m@1");
    let nowhere = back(None).await.unwrap_err();
    assert!(nowhere.kind() == ErrorKind::Conflict && nowhere.to_string().contains("m@1 was its first"), "{nowhere}");
    let history = world.db.alias_history(&name, Some(&production)).await.unwrap();
    assert_eq!(
        (history[0].action, history[0].from_version, history[0].to_version),
        (AliasAction::Rollback, Some(2), 1)
    );
    assert_eq!(history[0].reason.as_deref(), Some("worse in the field"));
    let missing = world.db.roll_back(&name, &"staging".parse().unwrap(), None, &signature("x")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let unknown = world.db.alias_history(&"nobody".parse().unwrap(), None).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn of_promotions_at_once_each_is_one_row_of_an_unbroken_chain() {
    let world = World::new().await;
    for _ in 0..8 {
        world.model("m").await;
    }
    let requests: Vec<_> =
        (1..=8).map(|version| Promotion { gate: forced(), ..promotion("m", version, "production") }).collect();
    let moves = futures::future::join_all(requests.iter().map(|request| world.db.promote(request))).await;
    assert!(moves.iter().all(Result::is_ok), "{moves:?}");
    let broken = "select count(*) from (select from_version, lag(to_version) over (order by id) as before from alias_moves) chain
                  where from_version is distinct from before";
    assert_eq!(world.number(broken).await, 0);
    assert_eq!(world.number("select count(*) from alias_moves").await, 8);
    let holder = "select count(*) from alias_tenures t join model_aliases a using (name, alias) join models m on m.id = a.model_id
                  where t.held_until = 'infinity' and t.version = m.version";
    assert_eq!(world.number(holder).await, 1);
}
