//! `companies`: an agency's companies, and manifests that give each of them an account.

use std::collections::BTreeSet;

use graph_credential_operator::api::WoodpeckerAccount;
use graph_credential_operator::api::conditions::ConditionStatus;
use kit::shell::Shell;
use kit::woodpecker::{Company, Fault, Op};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::admin_cli::{CommandOutput, assert_help, line, look, run};
use crate::harness::{API_KEY, TestEnv};

/// A test environment with an account `hq` that has the agency's key, and these companies at Woodpecker.
async fn agency(env: TestEnv, companies: &[(i64, &str)]) -> TestEnv {
    for (id, name) in companies {
        env.woodpecker.list_company("agency", Company::new(*id, name));
    }
    env.secret("agency-key", &[("api_key", API_KEY)]).await;
    env.apply_account("hq", json!({"apiKeySecretRef": {"name": "agency-key"}})).await;
    env
}

async fn companies(env: &TestEnv, more: &[&str]) -> CommandOutput {
    let account = format!("--account={}/hq", env.namespace);
    look(env, "companies", &[&[account.as_str()], more].concat()).await
}

/// The objects that `-o json` prints.
fn items(printed: &CommandOutput) -> Vec<Value> {
    let list: Value = serde_json::from_str(&printed.out).unwrap_or_else(|_| panic!("{printed:?}"));
    assert_eq!((&list["apiVersion"], &list["kind"]), (&json!("v1"), &json!("List")));
    list["items"].as_array().unwrap().clone()
}

/// The accounts among them: name, company, namespace of the client.
fn accounts(objects: &[Value]) -> Vec<(String, i64, String)> {
    let of_kind = objects.iter().filter(|object| object["kind"] == "WoodpeckerAccount");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    of_kind
        .map(|it| {
            let spec = &it["spec"];
            let namespace = text(&spec["allowedNamespaces"]["names"][0]);
            (text(&it["metadata"]["name"]), spec["companyId"].as_i64().unwrap(), namespace)
        })
        .collect()
}

#[tokio::test]
async fn companies_shows_which_companies_have_an_account() {
    let env = agency(TestEnv::bare().await, &[(4711, "Contoso"), (4712, "Fabrikam \u{1b}[31m")]).await;
    let inactive = |id, name| Company { is_active: false, ..Company::new(id, name) };
    env.woodpecker.list_company("agency", inactive(4713, "Left"));
    env.woodpecker.list_company("agency", inactive(4714, "Gone"));
    let of_company = |id: i64| json!({"apiKeySecretRef": {"name": "agency-key"}, "companyId": id});
    env.apply_account("contoso", of_company(4711)).await;
    env.apply_account("left", of_company(4713)).await;
    env.apply_account("typo", of_company(47)).await;
    let elsewhere =
        json!({"companyId": 4712, "baseUrl": "https://another.example", "apiKeySecretRef": {"name": "k"}});
    env.apply_account("elsewhere", elsewhere).await;

    let all = companies(&env, &[]).await;
    assert_eq!(all.code, Some(0), "{all:?}");
    let cells =
        |id: &str| line(&all.out, &[id]).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let named = |name: &str| format!("{}/{name}", env.namespace);
    assert_eq!(cells("4711"), ["4711", "Contoso", "active", &named("contoso")]);
    assert_eq!(cells("4713"), ["4713", "Left", "inactive", &named("left")]);
    assert_eq!(cells("4714"), ["4714", "Gone", "inactive", "none"]);
    assert_eq!(cells("4712").last().unwrap(), "none", "an account at another address is another account");
    assert!(!all.out.contains('\u{1b}'));
    for words in ["4713 \"Left\" is inactive", "/typo has spec.companyId 47,"] {
        assert!(all.error.contains(words), "{words}: {}", all.error);
    }

    let missing = companies(&env, &["--missing"]).await;
    assert_eq!((missing.code, missing.out.lines().count()), (Some(3), 2), "{missing:?}");
    assert!(line(&missing.out, &["4712", "Fabrikam"]).is_some(), "{missing:?}");
    let excluded = companies(&env, &["--missing", "--exclude", "1,4712"]).await;
    assert_eq!((excluded.code, excluded.out.lines().count()), (Some(0), 1), "{excluded:?}");
    // Requests are about the key, so they name no company, and nothing is changed at Woodpecker.
    let requests = env.woodpecker.requests("agency");
    assert!(requests.iter().all(|it| it.op == Op::Companies && it.company.is_none()), "{requests:?}");
    let through_company = format!("--account={}", named("contoso"));
    let same = look(&env, "companies", &[&through_company]).await;
    assert_eq!((same.code, same.out), (Some(0), all.out));
    assert_help(&env, "companies", &["Changes nothing", "$(companyId)", "Exit codes", "3 with --missing"])
        .await;
}

#[tokio::test]
async fn a_refusal_says_what_the_agency_needs() {
    let env = agency(TestEnv::bare().await, &[(4711, "Contoso")]).await;
    let refused = |status, detail: &str| {
        Fault::RefusedBefore(status, json!({"title": "x", "status": status, "detail": detail}))
    };
    for (fault, words) in [
        (refused(403, "No Agency addon"), "(HQ), with the agency add-on; the API key itself may be right"),
        (refused(401, "No API addon"), "add the API add-on"),
        (refused(401, "Upgrade your plan"), "upgrade the account's plan"),
        (Fault::Unauthorized, "rejects the API key (HTTP 401): write an API key"),
        (
            Fault::RefusedBefore(404, json!({"title": "Not Found"})),
            "use an API key of the agency's main account (HQ)",
        ),
        (Fault::WrongShape(json!({"content": []})), "could not be understood"),
        (
            Fault::WrongShape(
                json!({"content": [], "pagination_data": {"total_elements": 1, "total_pages": 1, "current_page_number": 1}}),
            ),
            "changed while it was read: try again",
        ),
        (
            Fault::WrongShape(json!({"status": {"status": "ERROR", "code": "E_SESSION", "msg": API_KEY}})),
            "could not be understood",
        ),
        (Fault::Html502, "check outbound connections"),
        (Fault::ProcessedThenTruncated, "response was lost"),
    ] {
        env.woodpecker.fail_next(Op::Companies, 1, fault.clone());
        let failed = companies(&env, &["--missing"]).await;
        assert_eq!((failed.code, failed.out.as_str()), (Some(1), ""), "{fault:?}: {failed:?}");
        assert!(failed.error.contains(words), "{fault:?}: {failed:?}");
    }
    let allowed_nothing = run(&env, &["companies", "--account", &format!("{}/hq", env.namespace)]).await;
    assert!(
        allowed_nothing.code == Some(1) && allowed_nothing.error.contains("allow-list"),
        "{allowed_nothing:?}"
    );
    env.woodpecker.list_company("agency", Company::new(4712, &format!("it is {API_KEY}")));
    let echoed = companies(&env, &[]).await;
    assert!(echoed.code == Some(0) && echoed.out.contains("[redacted]"), "{echoed:?}");
}

#[tokio::test]
async fn the_same_companies_always_get_the_same_names() {
    let names = [
        "Contoso",
        "CONTOSO!",
        "\u{682a}\u{5f0f}\u{4f1a}\u{793e}",
        "M\u{fc}ller & S\u{f6}hne",
        "",
        "contoso-4712",
    ];
    let all: Vec<(i64, &str)> = (4711..).zip(names).collect();
    let env = agency(TestEnv::bare().await, &all).await;
    let first = companies(&env, &["-o", "json"]).await;
    let made = accounts(&items(&first));
    let expected =
        ["contoso", "contoso-4712", "company-4713", "muller-sohne", "company-4715", "contoso-4712-4716"];
    assert_eq!(made.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), expected);
    assert!(made.iter().all(|(name, _, namespace)| *namespace == format!("client-{name}")), "{made:?}");
    assert_eq!(companies(&env, &["-o", "json"]).await.out, first.out);
    let yaml = companies(&env, &["-o", "yaml"]).await;
    assert_eq!(kit::helm::parse(&yaml.out).unwrap(), items(&first), "{}", yaml.out);
    assert!(yaml.out.contains("\n# Company 4714 \"M\u{fc}ller & S\u{f6}hne\"\n"), "{}", yaml.out);

    // An account keeps its name, also after another company took its name at Woodpecker.
    let spec = json!({
        "companyId": 4712, "apiKeySecretRef": {"name": "agency-key"}, "allowedNamespaces": {"names": ["contoso-team"]}
    });
    env.apply_account("contoso", spec).await;
    env.woodpecker.list_company("agency", Company { is_active: false, ..Company::new(4713, "x") });
    let again = companies(&env, &["-o", "json", "--namespace-template", "{name}-team"]).await;
    let shown = accounts(&items(&again));
    let ids: Vec<i64> = shown.iter().map(|(_, id, _)| *id).collect();
    assert_eq!(
        ids,
        [4711, 4714, 4715, 4716],
        "none for an inactive company, and none for one with an account"
    );
    assert_eq!(shown[0], ("contoso-4711".to_owned(), 4711, "contoso-4711-team".to_owned()));
    let note = format!("have an account are left out: 4712 ({}/contoso)", env.namespace);
    assert!(again.error.contains(&note), "{again:?}");
}

#[tokio::test]
async fn a_template_replaces_the_objects_of_a_company() {
    let env = agency(TestEnv::bare().await, &[(4711, "a\"}, evil: {b: \"$(secretName)")]).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let built_in = run(&env, &["companies", "--print-template"]).await;
    assert_eq!(built_in.code, Some(0), "{built_in:?}");
    let more = "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: deployer, namespace: $(namespace), annotations: {company: $(companyName)}}\n";
    let file = write("template.yaml", &format!("{}{more}", built_in.out));
    let printed = companies(&env, &["-o", "json", "--template", &file]).await;
    let objects = items(&printed);
    assert_eq!(objects.len(), 5, "{printed:?}");
    assert_eq!(objects[4]["metadata"]["annotations"], json!({"company": "a\"}, evil: {b: \"$(secretName)"}));
    let usual = items(&companies(&env, &["-o", "json"]).await);
    assert_eq!(objects[..4], usual);

    let typo = write("typo.yaml", &built_in.out.replace("$(companyId)", "$(company)"));
    let wrong = companies(&env, &["-o", "yaml", "--template", &typo]).await;
    assert!(wrong.code == Some(1) && wrong.error.contains("$(company) is not a placeholder"), "{wrong:?}");
    let table = companies(&env, &["--template", &file]).await;
    assert!(table.code == Some(1) && table.error.contains("add --output yaml"), "{table:?}");
}

#[tokio::test]
async fn three_hundred_companies_are_generated_and_applied() {
    let cluster = crate::harness::own_cluster().await;
    let shell =
        Shell::open(env!("CARGO_BIN_EXE_graph-credential-operator").as_ref(), &cluster.kubeconfig_path());
    let shell = shell.unwrap();
    let prerequisites = "kubectl apply --server-side --filename deploy/prerequisites.yaml";
    assert!(shell.run(prerequisites, "").unwrap().is_success());
    let established = "kubectl wait crd --all --for=condition=Established --timeout=60s";
    assert!(shell.run(established, "").unwrap().is_success());
    let odd = [
        "Contoso",
        "M\u{fc}ller GmbH",
        "\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}",
        "a: b # \"c\" {d}\n---\nx",
        "",
    ];
    let names: Vec<String> = (0..300).map(|n| format!("{} {}", odd[n % odd.len()], n / 20)).collect();
    let all: Vec<(i64, &str)> = (1000..).zip(names.iter().map(String::as_str)).collect();
    let env = agency(TestEnv::on(cluster).await, &all).await;

    let before = companies(&env, &["--missing"]).await;
    assert_eq!((before.code, before.out.lines().count()), (Some(3), 301), "{before:?}");
    let printed = companies(&env, &["--missing", "-o", "yaml"]).await;
    assert_eq!(printed.code, Some(3), "{printed:?}");
    let applied =
        shell.run("kubectl apply --server-side --validate=strict --filename -", &printed.out).unwrap();
    assert!(applied.is_success(), "{}", applied.error);
    assert_eq!(applied.out.lines().count(), 1200, "{}", applied.out);

    let api: Api<WoodpeckerAccount> = Api::all(env.client.clone());
    let stored = api.list(&ListParams::default()).await.unwrap().items;
    let ids: BTreeSet<i64> = stored.iter().filter_map(|account| account.spec.company_id).collect();
    assert_eq!(ids, all.iter().map(|(id, _)| *id).collect());
    let allowed: BTreeSet<&String> =
        stored.iter().filter_map(|account| account.spec.allowed_namespaces.as_ref()?.names.first()).collect();
    assert_eq!(allowed.len(), 300, "each client has a namespace of its own");
    let after = companies(&env, &["--missing"]).await;
    assert_eq!((after.code, after.error.as_str()), (Some(0), ""), "{after:?}");
    let none = companies(&env, &["-o", "yaml"]).await;
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""), "{none:?}");
    assert!(
        none.error.contains("have an account are left out: 1000 (") && none.error.contains(" and 290 more")
    );
}

/// What somebody changes after the first manifests were applied, as the same field manager.
fn edits(namespace: &str) -> [String; 4] {
    let account =
        r#"{"spec": {"allowedNamespaces": {"names": ["client-contoso", "more"]}, "mailboxHealth": {}}}"#;
    let binding =
        r#"{"subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "contoso"}]}"#;
    let patch = format!("--namespace {namespace} --type=merge --field-manager=kubectl --patch");
    [
        format!("patch woodpeckeraccount contoso {patch} '{account}'"),
        format!("patch rolebinding use-fabrikam {patch} '{binding}'"),
        "label namespace client-fabrikam team=sales --field-manager=kubectl".to_owned(),
        // The other objects of the company stay.
        format!("delete woodpeckeraccount fabrikam --namespace {namespace}"),
    ]
}

#[tokio::test]
async fn applying_manifests_again_changes_nothing_that_is_in_the_cluster() {
    let cluster = crate::harness::own_cluster().await;
    let shell =
        Shell::open(env!("CARGO_BIN_EXE_graph-credential-operator").as_ref(), &cluster.kubeconfig_path());
    let shell = shell.unwrap();
    let kubectl = |command: &str, input: &str| {
        let ended = shell.run(&format!("kubectl {command}"), input).unwrap();
        assert!(ended.is_success(), "{command}: {ended:?}");
        ended.out
    };
    kubectl("apply --server-side --filename crds", "");
    kubectl("wait crd --all --for=condition=Established --timeout=60s", "");
    let env = agency(TestEnv::on(cluster).await, &[(4711, "Contoso"), (4712, "Fabrikam")]).await;
    let own = &env.namespace;
    kubectl("apply --server-side --filename -", &companies(&env, &["-o", "yaml"]).await.out);
    for edit in &edits(own) {
        kubectl(edit, "");
    }
    let state = || {
        let of_agency = format!("get woodpeckeraccounts,roles,rolebindings --namespace {own} --output json");
        let lists = [kubectl(&of_agency, ""), kubectl("get namespaces --output json", "")];
        let lists = lists.map(|list| serde_json::from_str::<Value>(&list).unwrap());
        let objects = lists.iter().flat_map(|list| list["items"].as_array().unwrap());
        let version = |object: &Value| {
            let metadata = &object["metadata"];
            format!("{} {} {}", object["kind"], metadata["name"], metadata["resourceVersion"])
        };
        objects.map(version).collect::<BTreeSet<String>>()
    };
    let kept = format!("Namespace client-fabrikam, Role {own}/use-fabrikam, RoleBinding {own}/use-fabrikam");
    // The second time, Fabrikam has an account again.
    let times = [("apply --server-side --filename -", 4713, 5), ("apply --filename -", 4714, 4)];
    for (apply, new_company, new_objects) in times {
        let before = state();
        env.woodpecker.list_company("agency", Company::new(new_company, &format!("New {new_company}")));
        let printed = companies(&env, &["-o", "yaml"]).await;
        assert!(printed.error.contains(&format!("4711 ({own}/contoso)")), "{printed:?}");
        assert_eq!(printed.error.contains(&format!("already has {kept}")), new_objects == 5, "{printed:?}");
        kubectl(apply, &printed.out);
        let after = state();
        assert!(before.is_subset(&after), "{apply}: {before:#?} {after:#?}");
        assert_eq!(after.len() - before.len(), new_objects, "{apply}: {printed:?}");
    }
}

/// The example's Job, with the account of the test and as its ServiceAccount.
#[tokio::test]
async fn the_job_of_the_example_needs_only_the_rights_of_the_example() {
    let cluster = crate::harness::own_cluster().await;
    let mut env = TestEnv::on(cluster).await;
    let shell =
        Shell::open(env!("CARGO_BIN_EXE_graph-credential-operator").as_ref(), &cluster.kubeconfig_path());
    let shell = shell.unwrap();
    for command in [
        "kubectl apply --server-side --filename crds",
        "kubectl wait crd --all --for=condition=Established --timeout=60s",
        "kubectl create namespace agency",
        "kubectl apply --server-side --validate=strict --filename examples/agency/companies.yaml",
    ] {
        let ended = shell.run(command, "").unwrap();
        assert!(ended.is_success(), "{ended:?}");
    }
    env.namespace = "agency".to_owned();
    env.secret("agency-key", &[("api_key", API_KEY)]).await;
    env.apply_account("contoso", json!({"companyId": 4711, "apiKeySecretRef": {"name": "agency-key"}})).await;
    env.woodpecker.list_company("agency", Company::new(4711, "Contoso"));
    env.woodpecker.list_company("agency", Company::new(4712, "Fabrikam"));

    let example = std::fs::read_to_string(kit::workspace().join("examples/agency/companies.yaml")).unwrap();
    let job = kit::helm::parse(&example).unwrap().into_iter().find(|it| it["kind"] == "CronJob").unwrap();
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let args: Vec<&str> =
        pod["containers"][0]["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let token = shell.run("kubectl create token companies --namespace agency", "").unwrap();
    let kubeconfig = cluster.kubeconfig_with_token("companies", token.out.trim()).unwrap();
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let failed = look(&env, args[0], &[&args[1..], &[&kubeconfig]].concat()).await;
    assert_eq!(failed.code, Some(3), "{failed:?}");
    let code = &job["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"];
    assert_eq!(*code, json!([3]));
    assert!(line(&failed.out, &["4712", "Fabrikam"]).is_some(), "{failed:?}");
}

#[tokio::test]
async fn status_shows_one_row_for_each_account_with_its_credentials_of_all_namespaces() {
    let env = TestEnv::start().await;
    env.woodpecker.add_company("agency", "4711");
    let of_company = json!({"apiKeySecretRef": {"name": "agency-key"}, "companyId": 4711});
    env.apply_account("contoso", of_company).await;
    env.apply_account("broken", json!({"apiKeySecretRef": {"name": "nowhere"}})).await;
    let at = |account: &str| json!({"destination": {"woodpecker": {"accountRef": {"name": account}}}});
    env.credential("sales-eu", at("contoso")).await;
    env.wait_until_ready("sales-eu").await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    env.wait_for_account("broken", ConditionStatus::False, "SecretNotFound").await;
    let args = ["status", "--accounts", "--namespace", &env.namespace];
    let printed = run(&env, &args).await;
    let cells = |name: &str| -> Vec<&str> {
        let row = line(&printed.out, &[&env.namespace, name]).unwrap_or_else(|| panic!("{printed:?}"));
        row.split_whitespace().skip(1).collect()
    };
    let contoso = cells("contoso");
    assert_eq!(contoso[..10], ["contoso", "4711", "True", "Authenticated", "1", "1", "0", "0", "0", "0"]);
    assert!(contoso[10].parse::<i64>().is_ok_and(|days| (300..400).contains(&days)), "{contoso:?}");
    assert_eq!(cells("agency")[1..5], ["-", "True", "Authenticated", "0"]);
    assert_eq!(cells("broken")[1..4], ["-", "False", "SecretNotFound"]);
    let csv = run(&env, &[&args[..], &["-o", "csv"]].concat()).await;
    assert_eq!((csv.out.lines().count(), csv.code), (4, printed.code), "{csv:?}");
    let json = run(&env, &[&args[..], &["-o", "json"]].concat()).await;
    let rows: Value = serde_json::from_str(&json.out).unwrap();
    let row = rows["accounts"].as_array().unwrap().iter().find(|row| row["name"] == "contoso").unwrap();
    assert_eq!((&row["companyId"], &row["readyNow"]), (&json!(4711), &json!(1)));
    let both = run(&env, &[&args[..], &["--by", "account"]].concat()).await;
    assert_eq!(both.code, Some(2), "{both:?}");
}
