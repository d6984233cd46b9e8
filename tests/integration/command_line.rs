//! The commands `verify` and `explain`.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use graph_credential_operator::api::reasons::{ENTRIES, Reason};
use graph_credential_operator::core::aadsts::CODES;
use kit::entra::{AppState, Entra, Fault, RetryAfter};
use serde_json::{Value, json};

use crate::harness::{CLIENT, TENANT};

pub const CANARY: &str = "canary-of-the-command-line+/%";

/// Output and exit code of a command.
#[derive(Debug)]
pub struct CommandOutput {
    pub code: Option<i32>,
    pub out: String,
    pub error: String,
}

/// Runs the program with these arguments and this input.
pub async fn run(args: &[&str], input: &str) -> CommandOutput {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let input = input.to_owned();
    let ended = tokio::task::spawn_blocking(move || start(&args, &input)).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    CommandOutput { code: ended.status.code(), out: text(ended.stdout), error: text(ended.stderr) }
}

fn start(args: &[String], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_graph-credential-operator"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input closes it.
    let _unread = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub async fn verify(entra: &Entra, more: &[&str], secret: &str) -> CommandOutput {
    let url = entra.url();
    let mut args =
        vec!["verify", "--tenant-id", TENANT, "--client-id", CLIENT, "--microsoft-authority", &url];
    args.extend(["--dns-server", "127.0.0.1:9", "--secret-stdin"]);
    args.extend(more);
    let printed = run(&args, secret).await;
    assert!(!printed.out.contains(secret.trim()) && !printed.error.contains(secret.trim()), "{printed:?}");
    printed
}

pub async fn entra() -> Entra {
    let entra = Entra::start().await;
    entra.add_app(TENANT, CLIENT);
    entra.set_secrets(TENANT, CLIENT, &[CANARY]);
    entra.set_roles(TENANT, CLIENT, &["Mail.Send"]);
    entra
}

#[tokio::test]
async fn verify_has_an_exit_code_for_each_class_of_result() {
    let entra = entra().await;
    let issued = verify(&entra, &[], CANARY).await;
    assert_eq!(issued.code, Some(0), "{issued:?}");
    assert!(issued.out.contains("TokenIssued") && issued.out.contains("Mail.Send"), "{}", issued.out);

    let rejected = verify(&entra, &[], "another").await;
    assert_eq!(rejected.code, Some(3), "{rejected:?}");
    for word in ["InvalidClientSecret", "AADSTS7000215", "who acts", "what to do", "trace id", "correlation"]
    {
        assert!(rejected.out.contains(word), "{word}: {}", rejected.out);
    }

    entra.fail_next(1, Fault::Throttled { retry_after: RetryAfter::Seconds(60) });
    let throttled = verify(&entra, &[], CANARY).await;
    assert_eq!((throttled.code, throttled.out.contains("RateLimited")), (Some(4), true), "{throttled:?}");
    entra.fail_next(1, Fault::Html503);
    assert_eq!(verify(&entra, &[], CANARY).await.code, Some(4));
}

#[tokio::test]
async fn verify_prints_the_reason_of_each_rejection() {
    let entra = entra().await;
    for (state, reason, actor) in [
        (AppState::Disabled, "ApplicationDisabled", "an admin of the tenant"),
        (AppState::WithoutServicePrincipal, "ServicePrincipalMissing", "an admin of the tenant"),
    ] {
        entra.set_state(TENANT, CLIENT, state);
        let printed = verify(&entra, &[], CANARY).await;
        assert_eq!(printed.code, Some(3), "{printed:?}");
        assert!(printed.out.contains(reason) && printed.out.contains(actor), "{}", printed.out);
    }
    entra.set_state(TENANT, CLIENT, AppState::Active);
    for (code, error, exit, reason, actor) in [
        (500_011, "invalid_resource", 3, "VerificationRejected", "an admin of the tenant"),
        (70_011, "invalid_scope", 3, "VerificationRejected", "the operator's developers"),
        (123_456, "invalid_client", 3, "InvalidClientSecret", "you"),
        (50_196, "invalid_grant", 4, "RateLimited", "nobody"),
        (90_036, "server_error", 4, "MicrosoftUnavailable", "Microsoft's support"),
    ] {
        entra.fail_next(1, Fault::UnknownCode(code, error.into()));
        let printed = verify(&entra, &["-o", "json"], CANARY).await;
        let json: Value = serde_json::from_str(&printed.out).unwrap();
        assert_eq!((printed.code, &json["reason"]), (Some(exit), &Value::from(reason)), "{code}: {json}");
        assert_eq!(
            (&json["whoActs"], &json["codes"][0]),
            (&Value::from(actor), &Value::from(code)),
            "{json}"
        );
    }
}

#[tokio::test]
async fn verify_prints_the_retry_delay_or_why_microsoft_was_not_reached() {
    let entra = entra().await;
    entra.fail_next(1, Fault::Throttled { retry_after: RetryAfter::Seconds(61) });
    let printed = verify(&entra, &["-o", "json"], CANARY).await;
    let json: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!(
        (&json["retryAfterSeconds"], &json["reason"]),
        (&Value::from(61), &Value::from("RateLimited"))
    );
    entra.fail_next(1, Fault::Reset);
    let printed = verify(&entra, &[], CANARY).await;
    assert_eq!(printed.code, Some(4));
    assert!(
        printed.out.contains("could not be reached") && printed.out.contains("failure:"),
        "{}",
        printed.out
    );
}

#[tokio::test]
async fn verify_does_not_print_response_text() {
    let entra = entra().await;
    let echo = json!({
        "error": "invalid_client", "error_codes": [7_000_215], "error_description": CANARY,
        "trace_id": CANARY, "correlation_id": format!("\u{1b}[31m{CANARY}"), "timestamp": CANARY
    });
    for form in ["table", "json", "yaml"] {
        let headers = vec![("content-type".into(), "application/json".into())];
        entra.fail_next(1, Fault::Status(401, echo.to_string(), headers));
        // `verify` checks each output for the secret.
        let printed = verify(&entra, &["-o", form], CANARY).await;
        assert_eq!(printed.code, Some(3));
        assert!(printed.out.contains("7000215") && !printed.out.contains('\u{1b}'), "{}", printed.out);
    }
}

#[tokio::test]
async fn verify_reads_the_secret_from_a_file_unchanged() {
    let entra = entra().await;
    let file = std::env::temp_dir().join(format!("verify-secret-{}", std::process::id()));
    let url = entra.url();
    let path = file.to_str().unwrap();
    let args = ["verify", "--tenant-id", TENANT, "--client-id", CLIENT, "--microsoft-authority", &url];
    let args = [&args[..], &["--dns-server", "127.0.0.1:9", "--secret-file", path]].concat();
    let mut ends = Vec::new();
    for end in ["", "\n", "\r\n", " "] {
        std::fs::write(&file, format!("{CANARY}{end}")).unwrap();
        let printed = run(&args, "").await;
        assert!(!printed.out.contains(CANARY) && !printed.error.contains(CANARY), "{printed:?}");
        ends.push((printed.code, printed.out));
    }
    std::fs::remove_file(&file).unwrap();
    assert!(ends[0].0 == Some(0) && ends[0].1.contains("TokenIssued"), "{ends:?}");
    for (end, problem) in ends[1..].iter().zip(["line feed", "carriage return", "space"]) {
        assert!(end.0 == Some(3) && end.1.contains("InvalidCharacters"), "{end:?}");
        assert!(end.1.contains(problem) && end.1.contains("nothing was sent"), "{end:?}");
    }
    assert_eq!(entra.requests().len(), 1, "only the plain value is sent");
}

#[tokio::test]
async fn verify_limits_the_size_of_the_secret() {
    let entra = entra().await;
    let from_input = verify(&entra, &[], &"x".repeat(8193)).await;
    assert_eq!(from_input.code, Some(3));
    assert!(from_input.out.contains("ValueTooLong: the secret is longer than 8192 bytes"), "{from_input:?}");
    // A file that never ends.
    let args = ["verify", "--tenant-id", TENANT, "--client-id", CLIENT, "--secret-file", "/dev/zero"];
    let from_file = run(&args, "").await;
    assert_eq!((from_file.code, from_file.out), (from_input.code, from_input.out));
    assert_eq!(entra.requests().len(), 0);
}

#[tokio::test]
async fn verify_prints_only_role_names_of_a_token() {
    let entra = entra().await;
    entra.set_roles(TENANT, CLIENT, &["Mail.Send", "\u{1b}[31mred", "two\nlines"]);
    for form in ["table", "json", "yaml"] {
        let printed = verify(&entra, &["-o", form], CANARY).await;
        assert_eq!(printed.code, Some(0), "{printed:?}");
        assert!(printed.out.contains("Mail.Send") && !printed.out.contains("red"), "{}", printed.out);
        assert!(!printed.out.contains("lines"), "{}", printed.out);
    }
}

#[tokio::test]
async fn verify_describes_a_rejected_secret_that_is_something_else() {
    let entra = entra().await;
    for (secret, hint) in [
        (CLIENT, "the value is the client ID"),
        ("0f1a2b3c-4d5e-4f60-8a7b-9c0d1e2f3a4b", "a secret's ID"),
        ("{{ .Values.secret }}", "placeholder"),
        ("'abc8Q~quoted'", "quotation marks"),
        ("{\"password\":\"abc8Q~json\"}", "az ad sp create-for-rbac"),
        ("abc8Q%7Eencoded", "URL-encoded"),
    ] {
        let printed = verify(&entra, &[], secret).await;
        assert_eq!(printed.code, Some(3));
        assert!(printed.out.contains("InvalidClientSecret") && printed.out.contains(hint), "{}", printed.out);
    }
    assert_eq!(entra.requests().len(), 6, "only Microsoft decides");
}

#[tokio::test]
async fn verify_sends_no_unusable_secret() {
    let entra = entra().await;
    let stray = verify(&entra, &[], &format!("{CANARY}\n")).await;
    assert_eq!(stray.code, Some(3));
    assert!(stray.out.contains("InvalidCharacters") && stray.out.contains("echo -n"), "{}", stray.out);
    let json = verify(&entra, &["-o", "json"], &format!("{CANARY} ")).await;
    let value: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &value["reason"]), (Some(3), &Value::from("InvalidCharacters")));
    let args = ["verify", "--tenant-id", TENANT, "--client-id", CLIENT, "--secret-stdin"];
    let utf_16: String = CANARY.chars().flat_map(|letter| [letter, '\0']).collect();
    let utf_16 = run(&args, &utf_16).await;
    assert_eq!((utf_16.code, utf_16.out.contains("UTF-16")), (Some(3), true), "{utf_16:?}");
    let empty = run(&args, "").await;
    assert_eq!((empty.code, empty.out.contains("EmptyValue")), (Some(3), true), "{empty:?}");
    assert_eq!(entra.requests().len(), 0);
}

#[tokio::test]
async fn verify_checks_roles_and_prints_json() {
    let entra = entra().await;
    let printed = verify(&entra, &["--required-role", "Mail.ReadWrite", "-o", "json"], CANARY).await;
    assert_eq!(printed.code, Some(3));
    let json: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!(json["reason"], "RequiredRolesMissing");
    assert_eq!(json["roles"][0], "Mail.Send");
    let printed = verify(&entra, &["-o", "json"], "another").await;
    let json: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!((&json["codes"][0], &json["status"]), (&Value::from(7_000_215), &Value::from(401)));
    assert!(json["traceId"].is_string());
}

#[tokio::test]
async fn verify_never_takes_the_secret_from_the_command_line() {
    let bare = run(&["verify", "--tenant-id", TENANT, "--client-id", CLIENT], "").await;
    assert_eq!(bare.code, Some(2));
    assert!(bare.error.contains("--secret-file"), "{}", bare.error);
    let given = run(&["verify", "--tenant-id", TENANT, "--client-id", CLIENT, "--secret", "x"], "").await;
    assert_eq!(given.code, Some(2));
    let bad =
        run(&["verify", "--tenant-id", "contoso.com", "--client-id", CLIENT, "--secret-stdin"], "").await;
    assert!(
        bad.code == Some(2) && bad.error.contains("--tenant-id") && bad.error.contains("GUID"),
        "{}",
        bad.error
    );
    let gone =
        run(&["verify", "--tenant-id", TENANT, "--client-id", CLIENT, "--secret-file", "/nonexistent"], "")
            .await;
    assert!(gone.code == Some(1) && gone.error.contains("--secret-file"), "{}", gone.error);
}

#[tokio::test]
async fn explain_knows_every_code_and_every_reason() {
    let all = run(&["explain"], "").await;
    assert_eq!(all.code, Some(0));
    for reason in Reason::ALL {
        assert!(all.out.contains(&format!("{reason}: ")), "{reason}");
    }
    for code in CODES {
        assert!(all.out.contains(&format!("AADSTS{}: ", code.digits())), "{}", code.digits());
    }
    for word in ["7000215", "aadsts7000215", "AADSTS7000215"] {
        let printed = run(&["explain", word], "").await;
        assert!(
            printed.out.contains("InvalidClientSecret") && printed.out.contains("what to do"),
            "{word}: {}",
            printed.out
        );
    }
    for (code, reason) in [("AADSTS530099", "ConditionalAccessBlocked"), ("AADSTS5000225", "TenantBlocked")] {
        let printed = run(&["explain", code], "").await;
        assert!(printed.out.starts_with(code) && printed.out.contains(reason), "{}", printed.out);
    }
    let printed = run(&["explain", "invalidclientsecret", "-o", "json"], "").await;
    let json: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!(
        (&json[0]["reason"], &json[0]["condition"]),
        (&Value::from("InvalidClientSecret"), &Value::from("Verified"))
    );
    assert_eq!(json[1]["condition"], "Ready", "of an identity");
}

#[tokio::test]
async fn explain_lists_everything_as_json_with_actor_and_action() {
    let printed = run(&["explain", "-o", "json"], "").await;
    let all: Vec<Value> = serde_json::from_str(&printed.out).unwrap();
    assert_eq!(all.len(), ENTRIES.len() + CODES.len());
    for one in &all {
        for field in ["name", "reason", "condition", "status", "description", "whoActs", "whatToDo"] {
            assert!(one[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {one}");
        }
    }
}

#[tokio::test]
async fn explain_suggests_words_similar_to_an_unknown_one() {
    let printed = run(&["explain", "InvalidClientSecrt"], "").await;
    assert_eq!(printed.code, Some(1));
    assert!(printed.error.contains("did you mean InvalidClientSecret"), "{}", printed.error);
    let printed = run(&["explain", "999"], "").await;
    assert!(
        printed.code == Some(1) && printed.error.contains("neither an AADSTS code (such as 7000215"),
        "{}",
        printed.error
    );
}

#[tokio::test]
async fn completion_and_man_pages_are_generated_for_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let printed = run(&["completion", shell], "").await;
        assert_eq!(printed.code, Some(0), "{printed:?}");
        assert!(printed.out.contains("remove-finalizers"), "{shell}: {}", printed.out);
    }
    assert_eq!(run(&["completion", "cmd"], "").await.code, Some(2));
    let directory = tempfile::tempdir().unwrap();
    let printed = run(&["man", &directory.path().display().to_string()], "").await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    for page in [
        "graph-credential-operator.1",
        "graph-credential-operator-status.1",
        "graph-credential-operator-keys-rotate.1",
    ] {
        assert!(directory.path().join(page).exists(), "{page}");
    }
    let missing = run(&["man", "/no/such/directory"], "").await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.error.contains("specify an existing directory"), "{missing:?}");
}

#[tokio::test]
async fn a_pasted_message_is_explained() {
    let printed = run(
        &["explain", "AADSTS7000222:", "The", "provided", "client", "secret", "keys", "are", "expired."],
        "",
    )
    .await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.out.starts_with("AADSTS7000222: the client secret has expired"), "{}", printed.out);
    let yaml = run(&["explain", "7000222", "-o", "yaml"], "").await;
    assert!(yaml.out.contains("reason: SecretExpired"), "{}", yaml.out);
}

#[cfg(unix)]
#[tokio::test]
async fn as_a_plugin_of_kubectl_the_usage_names_kubectl() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = directory.path().join("kubectl-graph_credentials");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_graph-credential-operator"), &plugin).unwrap();
    let printed = Command::new(&plugin).args(["status", "--help"]).output().unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(text.contains("Usage: kubectl graph-credentials status"), "{text}");
}
