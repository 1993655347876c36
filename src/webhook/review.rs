//! A question of the API server in, the answer out (`AdmissionReview` of admission.k8s.io/v1). No sockets, no time.

use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::inject::{Options, is_ignored, patch};

const API_VERSION: &str = "admission.k8s.io/v1";

/// What is to be done with which pods.
#[derive(Clone, Debug)]
pub struct Rules {
    pub options: Options,
    /// Namespaces whose pods are not touched, whatever the API server is configured to ask; besides those that never are.
    pub excluded_namespaces: Vec<String>,
}

/// The body to answer with, and what to log of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub body: Value,
    /// `NAMESPACE/NAME`, as far as they are known when a pod is made.
    pub pod: String,
    pub verdict: Verdict,
}

/// What becomes of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Injected,
    /// Admitted unchanged, and why.
    Left(String),
    /// Not admitted, and why.
    Refused(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

/// The fields that matter here; an API server may send more of them with each release.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    kind: Kind,
    operation: String,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize)]
struct Kind {
    group: String,
    kind: String,
}

/// Judges the pod in `body`.
///
/// # Errors
/// Why `body` is no question that can be answered; the API server then does what its `failurePolicy` says.
pub fn answer(body: &[u8], rules: &Rules) -> Result<Answer, String> {
    let review: Review =
        serde_json::from_slice(body).map_err(|error| format!("the body is no AdmissionReview: {error}"))?;
    if review.kind != "AdmissionReview" || review.api_version != API_VERSION {
        return Err(format!(
            "expected kind AdmissionReview of {API_VERSION}, found {:?} of {:?}; set admissionReviewVersions: [v1]",
            review.kind, review.api_version
        ));
    }
    let request = review.request.ok_or("this AdmissionReview has no request")?;
    let mut response = json!({ "uid": request.uid, "allowed": true });
    let (verdict, notes) = judge(&request, rules, &mut response);
    if let Verdict::Refused(why) = &verdict {
        response["allowed"] = json!(false);
        response["status"] = json!({ "status": "Failure", "code": 403, "reason": "Forbidden", "message": why });
    }
    if !notes.is_empty() {
        response["warnings"] = notes.iter().map(|note| format!("egret: {note}")).collect();
    }
    let body = json!({ "apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response });
    Ok(Answer { body, pod: name_of(&request), verdict })
}

/// The verdict, what to tell the person who made the pod, and the patch in `response`.
fn judge(request: &Request, rules: &Rules, response: &mut Value) -> (Verdict, Vec<String>) {
    let left = |why: &str| (Verdict::Left(why.to_owned()), Vec::new());
    let is_pod = request.kind.group.is_empty() && request.kind.kind == "Pod";
    if !is_pod || request.operation != "CREATE" || !request.sub_resource.is_empty() {
        return left("only pods that are being created are injected");
    }
    if is_ignored(&request.namespace) {
        return left("egret never goes into pods of this namespace");
    }
    if rules.excluded_namespaces.contains(&request.namespace) {
        return left("this namespace is excluded");
    }
    let pod = with_kind(&request.object);
    match patch(&pod, &rules.options) {
        Ok(patched) if patched.operations.is_empty() && patched.notes.is_empty() => {
            (Verdict::Left("there is nothing to do".to_owned()), Vec::new())
        }
        Ok(patched) if patched.operations.is_empty() => (Verdict::Left(patched.notes.join("; ")), patched.notes),
        Ok(patched) => {
            let operations = serde_json::to_vec(&patched.operations).expect("JSON made here");
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(BASE64.encode(&operations));
            (Verdict::Injected, patched.notes)
        }
        Err(reasons) => (Verdict::Refused(refusal(&reasons)), Vec::new()),
    }
}

/// The kind was checked in the request; an object may be sent without its own.
fn with_kind(object: &Value) -> Value {
    let mut pod = object.clone();
    if let Some(fields) = pod.as_object_mut() {
        fields.insert("apiVersion".to_owned(), json!("v1"));
        fields.insert("kind".to_owned(), json!("Pod"));
        return pod;
    }
    json!({ "apiVersion": "v1", "kind": "Pod" })
}

fn refusal(reasons: &[String]) -> String {
    format!(
        "egret cannot guard this pod: {}. A pod that is meant to run without egret has the label \
         sidecar.istio.io/inject: \"false\"",
        reasons.join("; ")
    )
}

fn name_of(request: &Request) -> String {
    let metadata = &request.object["metadata"];
    let name = metadata["name"].as_str().or(metadata["generateName"].as_str()).unwrap_or("?");
    format!("{}/{name}", request.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let options = Options {
            image: "egret:1".into(),
            config_map: "egret".into(),
            secrets: vec!["a".into()],
            classic: false,
            capture_dns: false,
            seccomp_profile: None,
        };
        Rules { options, excluded_namespaces: vec!["ops".into()] }
    }

    fn review(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut review = json!({
            "apiVersion": API_VERSION,
            "kind": "AdmissionReview",
            "request": {
                "uid": "u-1",
                "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "operation": "CREATE",
                "namespace": "shop",
                "object": {
                    "metadata": { "generateName": "web-" },
                    "spec": { "containers": [{ "name": "app", "image": "app" }], "volumes": null },
                },
            },
        });
        change(&mut review);
        serde_json::to_vec(&review).unwrap()
    }

    fn judged(change: impl FnOnce(&mut Value)) -> Answer {
        answer(&review(change), &rules()).unwrap()
    }

    fn operations(answer: &Answer) -> Vec<Value> {
        let patch = answer.body["response"]["patch"].as_str().unwrap_or_else(|| panic!("no patch: {answer:?}"));
        serde_json::from_slice(&BASE64.decode(patch.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_pod_gets_lists_that_it_lacks_and_items_at_the_front_of_those_it_has() {
        let paths = |answer: &Answer| -> Vec<String> {
            operations(answer).iter().map(|operation| operation["path"].as_str().unwrap().to_owned()).collect()
        };
        let plain = judged(|_| {});
        assert_eq!(paths(&plain), ["/spec/initContainers", "/spec/volumes"]);
        assert_eq!((plain.pod.as_str(), &plain.verdict), ("shop/web-", &Verdict::Injected));
        assert_eq!(plain.body["response"]["uid"], "u-1");
        let full = judged(|review| {
            review["request"]["object"]["spec"]["initContainers"] = json!([{ "name": "i", "image": "i" }]);
            review["request"]["object"]["spec"]["volumes"] = json!([{ "name": "v", "emptyDir": {} }]);
        });
        assert_eq!(
            paths(&full),
            [
                "/spec/initContainers/0",
                "/spec/initContainers/1",
                "/spec/volumes/0",
                "/spec/volumes/1",
                "/spec/volumes/2"
            ]
        );
    }

    #[test]
    fn annotations_name_secrets_and_a_config_map() {
        let answer = judged(|review| {
            review["request"]["object"]["metadata"]["annotations"] =
                json!({ "egret/secrets": "b, a", "egret/config-map": "mine", "sidecar.istio.io/proxyImage": "x" });
        });
        let volumes = &operations(&answer)[1]["value"];
        assert_eq!(volumes[0]["configMap"]["name"], "mine");
        assert_eq!((&volumes[2]["name"], &volumes[3]["name"]), (&json!("egret-secret-a"), &json!("egret-secret-b")));
        assert_eq!(volumes[4], Value::Null);
        assert_eq!(
            answer.body["response"]["warnings"],
            json!(["egret: sidecar.istio.io/proxyImage has no effect with egret"])
        );
    }

    #[test]
    fn what_is_left_as_it_is() {
        type Change = fn(&mut Value);
        let cases: [(&str, Change); 8] = [
            ("label", |r| r["object"]["metadata"]["labels"] = json!({ "sidecar.istio.io/inject": "false" })),
            ("annotation", |r| r["object"]["metadata"]["annotations"] = json!({ "sidecar.istio.io/inject": "no" })),
            ("namespace", |r| r["namespace"] = json!("ops")),
            ("the cluster's own namespace", |r| r["namespace"] = json!("kube-system")),
            ("another, and a pod that could not be guarded", |r| {
                r["namespace"] = json!("local-path-storage");
                r["object"]["spec"]["hostNetwork"] = json!(true);
            }),
            ("update", |r| r["operation"] = json!("UPDATE")),
            ("kind", |r| r["kind"] = json!({ "group": "apps", "version": "v1", "kind": "Deployment" })),
            ("already", |r| {
                r["object"]["spec"]["initContainers"] = json!([
                    { "name": "egret-init", "image": "mirror.example/egret:2", "args": ["init"] },
                    { "name": "egret", "image": "mirror.example/egret:2", "args": ["run"] }
                ]);
            }),
        ];
        for (what, change) in cases {
            let answer = judged(|review| change(&mut review["request"]));
            assert!(matches!(answer.verdict, Verdict::Left(_)), "{what}: {answer:?}");
            assert_eq!(answer.body["response"]["allowed"], true, "{what}");
            assert_eq!(answer.body["response"]["patch"], Value::Null, "{what}");
        }
    }

    #[test]
    fn what_is_refused_and_why() {
        type Change = fn(&mut Value);
        let cases: [(&str, Change); 10] = [
            ("hostNetwork", |r| r["spec"]["hostNetwork"] = json!(true)),
            ("runAsUser 1337", |r| r["spec"]["containers"][0]["securityContext"] = json!({ "runAsUser": 1337 })),
            ("NET_ADMIN", |r| {
                r["spec"]["containers"][0]["securityContext"] = json!({ "capabilities": { "add": ["NET_ADMIN"] } });
            }),
            ("expected \"true\" or", |r| {
                r["metadata"]["labels"] = json!({ "sidecar.istio.io/inject": "flase" });
            }),
            ("hostNetwork: the API server wants true or false", |r| r["spec"]["hostNetwork"] = json!("true")),
            ("runAsGroup 1337", |r| r["spec"]["securityContext"] = json!({ "runAsGroup": 1337.0 })),
            ("runAsUser: the API server wants a whole number", |r| {
                r["spec"]["securityContext"] = json!({ "runAsUser": "1337" });
            }),
            ("spec.resources.requests.memory is 32Mi", |r| {
                r["spec"]["resources"] = json!({ "requests": { "memory": "32Mi" } });
            }),
            ("no containers", |r| r["spec"]["containers"] = json!([])),
            ("has no spec", |r| r["spec"] = Value::Null),
        ];
        for (says, change) in cases {
            let answer = judged(|review| change(&mut review["request"]["object"]));
            let response = &answer.body["response"];
            assert!(matches!(&answer.verdict, Verdict::Refused(why) if why.contains(says)), "{says}: {answer:?}");
            assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)), "{says}");
            assert!(response["status"]["message"].as_str().unwrap().contains(says));
            assert_eq!(response["patch"], Value::Null);
        }
    }

    #[test]
    fn what_is_no_question() {
        for (body, says) in [
            (b"".to_vec(), "no AdmissionReview"),
            (b"[]".to_vec(), "no AdmissionReview"),
            (b"{\"kind\":\"AdmissionReview\"".to_vec(), "no AdmissionReview"),
            (vec![b'['; 100_000], "no AdmissionReview"),
            (review(|review| review["apiVersion"] = json!("admission.k8s.io/v1beta1")), "admissionReviewVersions"),
            (review(|review| review["kind"] = json!("Pod")), "expected kind"),
            (review(|review| review["request"] = Value::Null), "no request"),
            (review(|review| review["request"]["uid"] = json!(7)), "no AdmissionReview"),
        ] {
            let error = answer(&body, &rules()).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
