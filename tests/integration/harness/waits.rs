//! Waiting for a state: never for a fixed time, and a failure shows the state instead.

use super::*;

impl TestEnv {
    /// Waits until the credential has a condition with that status and reason.
    pub async fn wait_for(
        &self,
        name: &str,
        type_: ConditionType,
        status: ConditionStatus,
        reason: &str,
    ) -> MicrosoftGraphCredential {
        self.wait_until(name, &format!("{type_:?} {status:?} {reason}"), |object| {
            condition(object, type_).is_some_and(|found| found.status == status && found.reason == reason)
        })
        .await
    }

    pub async fn wait_until_ready(&self, name: &str) -> MicrosoftGraphCredential {
        self.wait_for(name, ConditionType::Ready, ConditionStatus::True, "Ready").await
    }

    pub async fn wait_until(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&MicrosoftGraphCredential) -> bool,
    ) -> MicrosoftGraphCredential {
        eventually(what, || async {
            let object: MicrosoftGraphCredential =
                self.api().get(name).await.map_err(|error| error.to_string())?;
            if is_so(&object) {
                return Ok(object);
            }
            Err(format!("status {:#?}\n{}", object.status, self.log()))
        })
        .await
    }

    pub async fn wait_for_account(
        &self,
        name: &str,
        status: ConditionStatus,
        reason: &str,
    ) -> WoodpeckerAccount {
        eventually(&format!("account {name}: Ready {status:?} {reason}"), || async {
            let object: WoodpeckerAccount = self.api().get(name).await.map_err(|error| error.to_string())?;
            let conditions =
                object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            match find(conditions, ConditionType::Ready) {
                Some(ready) if ready.status == status && ready.reason == reason => Ok(object),
                _ => Err(format!("status {:#?}\n{}", object.status, self.log())),
            }
        })
        .await
    }

    pub async fn wait_until_gone(&self, name: &str) {
        eventually(&format!("{name} is deleted"), || async {
            match self.api::<MicrosoftGraphCredential>().get_opt(name).await {
                Ok(None) => Ok(()),
                found => Err(format!("{found:#?}\n{}", self.log())),
            }
        })
        .await;
    }

    /// Waits for an event about an object, which follows the status that it reports. Returns all of the object's.
    pub async fn wait_for_event(&self, name: &str, text: &str) -> Vec<String> {
        eventually(&format!("{name}: an event with {text:?}"), || async {
            let events = self.events(name).await;
            let is_there = events.iter().any(|event| event.contains(text));
            if is_there { Ok(events) } else { Err(format!("{events:#?}\n{}", self.log())) }
        })
        .await
    }
}

pub fn condition(object: &MicrosoftGraphCredential, type_: ConditionType) -> Option<&Condition> {
    find(&object.status.as_ref()?.conditions, type_)
}

pub fn message(object: &MicrosoftGraphCredential, type_: ConditionType) -> &str {
    condition(object, type_).map(|condition| condition.message.as_str()).unwrap_or_default()
}

/// Retries until it succeeds; fails with the last result when the time is over.
pub async fn eventually<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(last) if tokio::time::Instant::now() >= deadline => {
                panic!("{what}: not reached after {TIMEOUT:?}: {last}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
