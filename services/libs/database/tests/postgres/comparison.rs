//! Two models on the same images.

use perito_database::ErrorKind;
use perito_domain::{metrics::mcnemar::McNemarTest, spec::Split};

use crate::world::World;

#[tokio::test]
async fn a_comparison_counts_who_was_right_and_is_stored_once() {
    let world = World::new().await;
    let dataset = world.dataset("d", 60).await;
    for _ in 0..3 {
        world.model("m").await;
    }
    world.evaluate("m@1", &dataset, |place| place < 30).await;
    world.evaluate("m@2", &dataset, |place| (20..34).contains(&place)).await;
    world.evaluate("m@3", &dataset, |place| place < 26).await;
    let compare = async |a: &str, b: &str| {
        let by = "ana".parse().unwrap();
        let (a, b, d) = (a.parse().unwrap(), b.parse().unwrap(), "d".parse().unwrap());
        world.db.compare_models(&a, &b, &d, Split::Validation, Some(&by)).await
    };
    let comparison = compare("m@1", "m@2").await.unwrap();
    let counts = comparison.agreement;
    assert_eq!(
        (counts.both_right, counts.only_champion_right, counts.only_challenger_right, counts.both_wrong),
        (10, 20, 4, 26)
    );
    assert_eq!((comparison.left_out, comparison.mcnemar.test), (0, McNemarTest::ExactBinomial));
    // scipy.stats.binomtest(4, 24).pvalue
    assert!((comparison.mcnemar.p_value - 0.001_543_879_508_972_168).abs() < 1e-12, "{comparison:?}");
    assert_eq!((comparison.champion.model.as_str(), comparison.dataset.as_str()), ("m@1", "d@1"));
    let close = compare("m@3", "m@1").await.unwrap();
    assert_eq!((close.agreement.only_champion_right, close.agreement.only_challenger_right), (0, 4));
    assert!((close.mcnemar.p_value - 0.125).abs() < 1e-12);

    assert_eq!(compare("m@1", "m@2").await.unwrap(), comparison, "the same measurements are compared once");
    assert_eq!(world.number("select count(*) from model_comparisons").await, 2);
    let shown = "select count(*) from analytics.model_comparisons where champion_version = 1 and challenger_version = 2 and images = 60
                 and dataset_version = 1 and split = 'validation' and test = 'exact-binomial' and p_value < 0.01 and compared_by = 'ana'";
    assert_eq!(world.number(shown).await, 1);
    assert_eq!(world.db.list_comparisons(Some(&"m".parse().unwrap())).await.unwrap().len(), 2);
    assert!(world.db.list_comparisons(Some(&"n".parse().unwrap())).await.unwrap().is_empty());
    // A new measurement is a new comparison.
    world.evaluate("m@2", &dataset, |_| true).await;
    assert_eq!(compare("m@1", "m@2").await.unwrap().agreement.only_challenger_right, 30);
    assert_eq!(world.number("select count(*) from model_comparisons").await, 3);

    let same = compare("m@1", "m@1").await.unwrap_err();
    assert!(same.kind() == ErrorKind::Invalid && same.to_string().contains("same version"), "{same}");
    world.model("m").await;
    let unmeasured = compare("m@1", "m@4").await.unwrap_err();
    assert!(unmeasured.to_string().contains("perito evaluate m@4 --dataset d@1"), "{unmeasured}");
    let measured = world.db.measurements(&"m@2".parse().unwrap()).await.unwrap();
    assert_eq!((measured.len(), measured[0].dataset.as_str()), (1, "d@1"), "the newest on each split: {measured:?}");
}

#[tokio::test]
async fn images_that_only_one_graded_take_no_part() {
    let world = World::new().await;
    let dataset = world.dataset("d", 9).await;
    world.model("m").await;
    world.model("m").await;
    let first = world.evaluate("m@1", &dataset, |_| true).await;
    world.evaluate("m@2", &dataset, |_| false).await;
    // As when its photographs could not be read.
    world.execute(&format!("delete from predictions where job_id = '{first}' and image_id in (select image_id from predictions limit 2)")).await;
    let by_name = |text: &str| text.parse().unwrap();
    let comparison = world
        .db
        .compare_models(&by_name("m@1"), &by_name("m@2"), &"d".parse().unwrap(), Split::Validation, None)
        .await
        .unwrap();
    assert_eq!((comparison.agreement.images(), comparison.left_out), (7, 2));
}
