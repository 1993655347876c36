"""One description of hosts, written twice: as Istio's documents for egret, and as what Istio generates of them for Envoy."""

import json

ADDRESS = "203.0.113.1"
LOG_KEYS = {
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "route_name": "%ROUTE_NAME%",
}

RETRY_DEFAULT = {"attempts": 2, "retryOn": "connect-failure,refused-stream,unavailable,cancelled"}
FORWARD = {"route": True}

# host: (ports of its endpoints, the HTTP route of its VirtualService or None, the trafficPolicy of its DestinationRule)
HOSTS = {
    "plain.test": ([8080], None, {}),
    "named.test": ([8080], {"name": "mine", **FORWARD}, {}),
    "unnamed.test": ([8080], {"timeout": "0.5s", **FORWARD}, {}),
    "retry5xx.test": ([8080], {"retries": {"attempts": 2, "retryOn": "5xx", "perTryTimeout": "0.3s"}, **FORWARD}, {}),
    "gateway.test": ([8080], {"retries": {"attempts": 1, "retryOn": "gateway-error"}, **FORWARD}, {}),
    "reset.test": ([8080], {"retries": {"attempts": 1, "retryOn": "reset"}, **FORWARD}, {}),
    "before.test": ([8080], {"retries": {"attempts": 2, "retryOn": "reset-before-request"}, **FORWARD}, {}),
    "conflict.test": ([8080], {"retries": {"attempts": 1, "retryOn": "retriable-4xx"}, **FORWARD}, {}),
    "status.test": ([8080], {"retries": {"attempts": 1, "retryOn": "429"}, **FORWARD}, {}),
    "once.test": ([8080], {"retries": {"attempts": 0}, **FORWARD}, {}),
    "abort.test": ([8080], {"fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}, **FORWARD}, {}),
    "delay.test": ([8080], {"fault": {"delay": {"fixedDelay": "0.3s", "percentage": {"value": 100}}}, **FORWARD}, {}),
    "redirect.test": ([8080], {"redirect": {"uri": "/new", "authority": "other.test"}}, {}),
    "direct.test": ([8080], {"directResponse": {"status": 202, "body": {"string": "said"}}}, {}),
    "rewrite.test": ([8080], {"rewrite": {"uri": "/echo", "authority": "new.test"}, **FORWARD}, {}),
    "regex.test": ([8080], {"rewrite": {"uriRegexRewrite": {"match": "^/a/([^/]+)/(.*)$", "rewrite": "/echo/\\2/\\1"}}, **FORWARD}, {}),
    "headers.test": (
        [8080],
        {
            "headers": {
                "request": {
                    "set": {
                        "x-set": "100%%",
                        "x-from": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                        "x-path": "%REQ(:PATH)%",
                        "x-none": "%REQ(x-none)%",
                    },
                    "add": {"x-add": "%PROTOCOL%"},
                    "remove": ["x-gone"],
                },
                "response": {"add": {"x-server": "%UPSTREAM_HOST%"}},
            },
            **FORWARD,
        },
        {},
    ),
    "noroute.test": ([8080], {"match": [{"uri": {"prefix": "/only"}}], **FORWARD}, {}),
    "nobody.test": ([9], None, {}),
    "tls.test": ([8443], None, {"tls": {"mode": "SIMPLE", "caCertificates": "FOLDER/ca.crt"}}),
    "tlsbad.test": ([8443], None, {"tls": {"mode": "SIMPLE", "caCertificates": "FOLDER/other.crt"}}),
    "plaintls.test": ([2525], None, {"tls": {"mode": "SIMPLE", "caCertificates": "FOLDER/ca.crt"}}),
    "limited.test": ([8080], None, {"connectionPool": {"http": {"http2MaxRequests": 1}}}),
    "ring.test": ([8081, 8082, 8083], None, {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}}),
    "maglev.test": (
        [8081, 8082, 8083],
        None,
        {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user", "maglev": {"tableSize": 65537}}}},
    ),
}
# port: (host, address, port of the endpoint, the DestinationRule's connectionPool)
BYTES = {
    2525: ("mail.test", "203.0.113.5", 2525, {"tcp": {"idleTimeout": "1s"}}),
    2526: ("small.test", "203.0.113.6", 2526, {"tcp": {"maxConnections": 1}}),
    2527: ("gone.test", "203.0.113.7", 9, {}),
}


def of_istio(folder):
    """The documents for egret."""
    documents = [{"apiVersion": "egret/v1", "kind": "Settings", "spec": {"accessLog": "JSON", "requestId": "SEND", "replyDetails": "BRIEF"}}]

    def add(kind, host, spec):
        metadata = {"name": host.replace(".", "-")}
        documents.append({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec})

    for host, (ports, route, policy) in HOSTS.items():
        endpoints = [{"address": ADDRESS, "ports": {"http": port}} for port in ports]
        add("ServiceEntry", host, {"hosts": [host], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "STATIC", "endpoints": endpoints})
        if policy:
            add("DestinationRule", host, {"host": host, "trafficPolicy": policy})
        if route:
            route = dict(route)
            if route.pop("route", None):
                route["route"] = [{"destination": {"host": host}}]
            add("VirtualService", host, {"hosts": [host], "http": [route]})
    for port, (host, address, endpoint, pool) in BYTES.items():
        entry = {"hosts": [host], "addresses": [address], "ports": [{"number": port, "name": "bytes", "protocol": "TCP"}], "resolution": "STATIC", "endpoints": [{"address": ADDRESS, "ports": {"bytes": endpoint}}]}
        add("ServiceEntry", host, entry)
        if pool:
            add("DestinationRule", host, {"host": host, "trafficPolicy": {"connectionPool": pool}})
    return "---\n".join(json.dumps(document) + "\n" for document in documents).replace("FOLDER", str(folder))


def typed(name, **fields):
    return {"@type": f"type.googleapis.com/{name}", **fields}


def retry_policy(retries):
    if retries.get("attempts") == 0:
        return None
    words = retries["retryOn"].split(",")
    codes = [int(word) for word in words if word.isdigit()]
    on = [word for word in words if not word.isdigit()] + (["retriable-status-codes"] if codes else [])
    policy = {
        "retry_on": ",".join(on),
        "num_retries": retries["attempts"],
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }
    if codes:
        policy["retriable_status_codes"] = codes
    if "perTryTimeout" in retries:
        policy["per_try_timeout"] = retries["perTryTimeout"]
    return policy


def field_changes(headers):
    def options(of, append):
        return [{"header": {"key": key, "value": value}, "append_action": append} for key, value in of.items()]

    found = {}
    for side in ("request", "response"):
        changes = headers.get(side, {})
        all_of = options(changes.get("set", {}), "OVERWRITE_IF_EXISTS_OR_ADD") + options(changes.get("add", {}), "APPEND_IF_EXISTS_OR_ADD")
        if all_of:
            found[f"{side}_headers_to_add"] = all_of
        if changes.get("remove"):
            found[f"{side}_headers_to_remove"] = changes["remove"]
    return found


def fault_of(fault):
    percent = {"numerator": 100, "denominator": "HUNDRED"}
    found = {}
    if "abort" in fault:
        found["abort"] = {"http_status": fault["abort"]["httpStatus"], "percentage": percent}
    if "delay" in fault:
        found["delay"] = {"fixed_delay": fault["delay"]["fixedDelay"], "percentage": percent}
    return {"envoy.filters.http.fault": typed("envoy.extensions.filters.http.fault.v3.HTTPFault", **found)}


def virtual_host(host, route):
    cluster = f"outbound|80||{host}"
    if route is None:
        action = {"cluster": cluster, "timeout": "0s", "retry_policy": retry_policy(RETRY_DEFAULT), "max_grpc_timeout": "0s"}
        if host in ("ring.test", "maglev.test"):
            action["hash_policy"] = [{"header": {"header_name": "x-user"}}]
        routes = [{"name": "default", "match": {"prefix": "/"}, "route": action}]
    else:
        made = {"match": {"prefix": "/"}, "name": route.get("name", "")}
        if "match" in route:
            made["match"] = {"prefix": route["match"][0]["uri"]["prefix"]}
        if "redirect" in route:
            made["redirect"] = {"path_redirect": route["redirect"]["uri"], "host_redirect": route["redirect"]["authority"]}
        elif "directResponse" in route:
            said = route["directResponse"]
            made["direct_response"] = {"status": said["status"], "body": {"inline_string": said["body"]["string"]}}
        else:
            action = {"cluster": cluster, "timeout": route.get("timeout", "0s"), "max_grpc_timeout": "0s"}
            policy = retry_policy(route.get("retries", RETRY_DEFAULT))
            if policy:
                action["retry_policy"] = policy
            rewrite = route.get("rewrite", {})
            if "uri" in rewrite:
                action["prefix_rewrite"] = rewrite["uri"]
            if "uriRegexRewrite" in rewrite:
                regex = rewrite["uriRegexRewrite"]
                action["regex_rewrite"] = {"pattern": {"regex": regex["match"]}, "substitution": regex["rewrite"]}
            if "authority" in rewrite:
                action["host_rewrite_literal"] = rewrite["authority"]
            made["route"] = action
        made.update(field_changes(route.get("headers", {})))
        if "fault" in route:
            made["typed_per_filter_config"] = fault_of(route["fault"])
        routes = [made]
    return {"name": f"{host}:80", "domains": [host, f"{host}:80"], "routes": routes, "include_request_attempt_count": False}


def cluster(name, ports, policy, folder):
    endpoints = [{"endpoint": {"address": {"socket_address": {"address": ADDRESS, "port_value": port}}}} for port in ports]
    limits = {"max_connections": 4294967295, "max_pending_requests": 4294967295, "max_requests": 4294967295, "max_retries": 4294967295, "track_remaining": True}
    pool = policy.get("connectionPool", {})
    if "http2MaxRequests" in pool.get("http", {}):
        limits["max_requests"] = pool["http"]["http2MaxRequests"]
    if "maxConnections" in pool.get("tcp", {}):
        limits["max_connections"] = pool["tcp"]["maxConnections"]
    made = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "circuit_breakers": {"thresholds": [limits]},
        "common_lb_config": {"healthy_panic_threshold": {}},
    }
    hashing = policy.get("loadBalancer", {}).get("consistentHash")
    if hashing:
        made["lb_policy"] = "MAGLEV" if "maglev" in hashing else "RING_HASH"
        if "maglev" not in hashing:
            made["ring_hash_lb_config"] = {"minimum_ring_size": 1024}
    if "tls" in policy:
        ca = policy["tls"]["caCertificates"].replace("FOLDER", str(folder))
        made["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": typed(
                "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                common_tls_context={"validation_context": {"trusted_ca": {"filename": ca}}},
            ),
        }
        options = {"auto_sni": True, "auto_san_validation": True}
        made["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                upstream_http_protocol_options=options,
                explicit_http_config={"http_protocol_options": {}},
            )
        }
    return made


def of_envoy(folder):
    """The bootstrap for Envoy."""
    log = {
        "name": "envoy.access_loggers.stdout",
        "typed_config": typed(
            "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            log_format={"json_format": LOG_KEYS},
        ),
    }

    def tcp_proxy(name, **fields):
        config = typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=name, cluster=name, access_log=[log], **fields)
        return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}

    def listener(name, address, port, chains, **fields):
        return {"name": name, "address": {"socket_address": {"address": address, "port_value": port}}, "filter_chains": chains, **fields}

    hosts = [virtual_host(host, route) for host, (_, route, _) in HOSTS.items()]
    any_route = {"name": "allow_any", "match": {"prefix": "/"}, "route": {"cluster": "PassthroughCluster", "timeout": "0s", "max_grpc_timeout": "0s"}}
    hosts.append({"name": "allow_any", "domains": ["*"], "routes": [any_route], "include_request_attempt_count": False})
    filters = [
        {"name": "envoy.filters.http.fault", "typed_config": typed("envoy.extensions.filters.http.fault.v3.HTTPFault")},
        {"name": "envoy.filters.http.router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router")},
    ]
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="outbound_0.0.0.0_80",
        route_config={"name": "80", "virtual_hosts": hosts, "validate_clusters": False, "ignore_port_in_host_matching": True, "max_direct_response_body_size_bytes": 1048576},
        http_filters=filters,
        access_log=[log],
        use_remote_address=False,
        upgrade_configs=[{"upgrade_type": "websocket"}],
        stream_idle_timeout="0s",
        normalize_path=True,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        preserve_external_request_id=True,
    )
    http = [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]
    inspector = {"name": "envoy.filters.listener.http_inspector", "typed_config": typed("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector")}
    original = {"name": "envoy.filters.listener.original_dst", "typed_config": typed("envoy.extensions.filters.listener.original_dst.v3.OriginalDst")}
    unread = [{"filters": [tcp_proxy("PassthroughCluster")], "name": "virtualOutbound-catchall-tcp"}]
    listeners = [
        listener("virtualOutbound", "0.0.0.0", 15001, unread, use_original_dst=True, listener_filters=[original]),
        listener("0.0.0.0_80", "0.0.0.0", 80, http, bind_to_port=False, listener_filters=[inspector], listener_filters_timeout="0s", continue_on_listener_filters_timeout=True),
    ]
    clusters = [cluster(f"outbound|80||{host}", ports, policy, folder) for host, (ports, _, policy) in HOSTS.items()]
    for port, (host, address, endpoint, pool) in BYTES.items():
        name = f"outbound|{port}||{host}"
        idle = {"idle_timeout": pool["tcp"]["idleTimeout"]} if "idleTimeout" in pool.get("tcp", {}) else {}
        listeners.append(listener(f"{address}_{port}", address, port, [{"filters": [tcp_proxy(name, **idle)]}], bind_to_port=False))
        clusters.append(cluster(name, [endpoint], {"connectionPool": pool}, folder))
    clusters.append({"name": "PassthroughCluster", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "10s"})
    admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15000}}}
    return json.dumps({"admin": admin, "static_resources": {"listeners": listeners, "clusters": clusters}})
