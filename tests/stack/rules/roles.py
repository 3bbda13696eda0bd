"""Who may do what."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.deploy import written
from tests.stack.iam import Call, grants
from tests.stack.rules.base import EXISTING, KEYS, Template, rule
from tests.stack.template import Stack

#: Actions that IAM can't narrow to a resource. Source: the service authorization reference.
WITHOUT_RESOURCE = {
    "cloudwatch:GetMetricData",
    "ecr:GetAuthorizationToken",
    "sns:Unsubscribe",
    "sqs:ListQueues",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
}


@rule
def roles_belong_to_this_accounts_tasks(template: Template) -> Iterator[str]:
    for name, role in Stack(template).resources("AWS::IAM::Role").items():
        (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        condition = statement.get("Condition", {})
        if statement["Principal"] != {"Service": "ecs-tasks.amazonaws.com"}:
            yield f"{name} can be assumed by {statement['Principal']}"
        if condition != {"ArnLike": {"aws:SourceArn": "arn:aws:ecs:us-east-1:123456789012:*"}}:
            yield f"{name} could be lent to another account's tasks"
        if "ManagedPolicyArns" in role["Properties"]:
            yield f"{name} has a managed policy, which grants more than is needed"


@rule
def every_action_has_its_resource(template: Template) -> Iterator[str]:
    stack = Stack(template)
    for role in stack.resources("AWS::IAM::Role"):
        for grant in grants(stack, role):
            if "*" in grant.action:
                yield f"{role}/{grant.sid}: {grant.action} is more than one action"
            if "*" in grant.resources and grant.action not in WITHOUT_RESOURCE:
                yield f"{role}/{grant.sid}: {grant.action} on everything"


@rule
def own_tasks_have_their_folder_and_no_more(template: Template) -> Iterator[str]:
    inputs, outputs = (f"arn:aws:s3:::photos-{kind}-123456789012-us-east-1" for kind in ("input", "output"))
    needed = {
        "WorkerRole": [Call(f"s3:{verb}Object", f"{outputs}/own/a") for verb in ("Get", "Put", "Delete")],
        "BridgeRole": [Call("s3:GetObject", f"{inputs}/a"), Call("s3:ListBucket", inputs)],
    }
    for folder in ("", "own/"):
        stack = Stack(template, {"OwnFolder": folder})
        for role, calls in needed.items():
            for call in calls:
                if any(grant.allows(call) for grant in grants(stack, role)) != bool(folder):
                    yield f"{role} with OwnFolder={folder!r}: {call} is {'refused' if folder else 'allowed'}"
        elsewhere = Call("s3:PutObject", f"{outputs}/else/a")
        if any(grant.allows(elsewhere) for grant in grants(stack, "WorkerRole")):
            yield f"WorkerRole with OwnFolder={folder!r} writes to other folders"


@rule
def further_renditions_have_their_folders_and_no_more(template: Template) -> Iterator[str]:
    """The ARNs are those that ``deploy`` makes; the containers are told of the same renditions."""
    given = {"Renditions": "thumbs=192x192,medium=640x480:webp,sizes/large=2048x", "OutputPrefix": "previews/"}
    bucket = "photos-output-123456789012-us-east-1"
    for existing in ({}, {"ExistingOutputBucket": "their-site"}):
        name = existing.get("ExistingOutputBucket", bucket)
        filled = {"RenditionArns": written.arns(given, bucket=name, partition="aws")}
        for parameters in (given | existing, given | existing | filled):
            stack = Stack(template, parameters)
            worker = grants(stack, "WorkerRole")
            may = filled["RenditionArns"] == stack.parameters["RenditionArns"]
            for verb in ("Get", "Put", "Delete"):
                for folder in ("resized", "failed", "medium", "sizes/large", "sizes", "other"):
                    call = Call(f"s3:{verb}Object", f"arn:aws:s3:::{name}/previews/{folder}/a")
                    wanted = folder in ("resized", "failed") or (may and folder in ("medium", "sizes/large"))
                    if any(grant.allows(call) for grant in worker) != wanted:
                        yield f"WorkerRole with {parameters}: {call} is {'refused' if wanted else 'allowed'}"
            for task in ("BridgeTask", "WorkerTask"):
                (container,) = stack.properties(task)["ContainerDefinitions"]
                variables = {entry["Name"]: entry["Value"] for entry in container["Environment"]}
                if variables.get("RENDITIONS") != given["Renditions"]:
                    yield f"{task} is not told of the renditions"


@rule
def secrets_are_for_the_execution_role_alone(template: Template) -> Iterator[str]:
    for parameters in ({}, {"Flower": "no"}, EXISTING):
        stack = Stack(template, parameters)
        wanted = {("FlowerSecret",)} if stack.condition("WithFlower") else set()
        wanted |= {(stack.parameters["RegistrySecretArn"],)} if stack.parameters["RegistrySecretArn"] else set()
        for role in stack.resources("AWS::IAM::Role"):
            read = {grant.resources for grant in grants(stack, role) if grant.action == "secretsmanager:GetSecretValue"}
            if read != (wanted if role == "ExecutionRole" else set()):
                yield f"{role}: access to secrets {read}"
        for name, task in stack.resources("AWS::ECS::TaskDefinition").items():
            (container,) = task["Properties"]["ContainerDefinitions"]
            login = container.get("RepositoryCredentials", {}).get("CredentialsParameter", "")
            if login != stack.parameters["RegistrySecretArn"]:
                yield f"{name}: the registry's login is {login!r}"


@rule
def roles_are_bounded_as_the_account_wants(template: Template) -> Iterator[str]:
    for parameters in ({}, EXISTING):
        stack = Stack(template, parameters)
        for name, role in stack.resources("AWS::IAM::Role").items():
            found = role["Properties"].get("PermissionsBoundary", ""), role["Properties"].get("Path")
            if found != (stack.parameters["PermissionsBoundary"], stack.parameters["RolePath"]):
                yield f"{name}: boundary and path are {found}"


@rule
def existing_buckets_and_keys_are_granted_and_no_others(template: Template) -> Iterator[str]:
    """``their-photos`` and ``their.scans`` are read, ``their-site`` below ``previews/`` is written."""
    objects = [f"arn:aws:s3:::{bucket}/a" for bucket in ("their-photos", "their.scans")]
    buckets = [f"arn:aws:s3:::{bucket}" for bucket in ("their-photos", "their.scans")]
    read = [Call("s3:GetObject", arn) for arn in objects] + [Call("s3:ListBucket", arn) for arn in buckets]
    read += [Call("kms:Decrypt", arn) for arn in KEYS["InputKmsKeyArns"].split(",")]
    write = [
        Call(f"s3:{verb}Object", f"arn:aws:s3:::their-site/previews/{folder}/a")
        for verb in ("Get", "Put", "Delete")
        for folder in ("resized", "thumbs", "failed")
    ]
    write += [Call(f"kms:{verb}", KEYS["OutputKmsKeyArn"]) for verb in ("Decrypt", "GenerateDataKey")]
    never = [Call("s3:PutObject", arn) for arn in objects] + [Call("s3:DeleteObject", arn) for arn in objects]
    outside = ("index.html", "resized/a", "previews/index.html")
    never += [Call("s3:PutObject", f"arn:aws:s3:::their-site/{name}") for name in outside]
    never.append(Call("s3:GetObject", "arn:aws:s3:::other/a"))
    never += [Call("kms:GenerateDataKey", arn) for arn in KEYS["InputKmsKeyArns"].split(",")]
    for folder in ("", "own/"):
        stack = Stack(template, EXISTING | {"OwnFolder": folder})
        worker, bridge = grants(stack, "WorkerRole"), grants(stack, "BridgeRole")
        for call in [*read, *write, Call("s3:ListBucket", "arn:aws:s3:::their-site")]:
            if not any(grant.allows(call) for grant in worker):
                yield f"WorkerRole may not {call}"
        for call in read:
            if any(grant.allows(call) for grant in bridge) != bool(folder):
                yield f"BridgeRole with OwnFolder={folder!r}: {call} is {'refused' if folder else 'allowed'}"
        for call in never:
            if any(grant.allows(call) for grant in (*worker, *bridge)):
                yield f"{call} is allowed"
        if not any(grant.allows(Call("s3:ListBucket", "arn:aws:s3:::their-site")) for grant in bridge):
            yield "BridgeRole may not list the failure records"
    for partition in ("aws-cn", "aws-us-gov"):
        stack = Stack(template, EXISTING, {"AWS::Partition": partition})
        for role in stack.resources("AWS::IAM::Role"):
            for grant in grants(stack, role):
                if strange := [arn for arn in grant.resources if ":s3:::" in arn and f"arn:{partition}:" not in arn]:
                    yield f"{role}/{grant.sid}: {strange} are not of {partition}"


@rule
def only_a_flower_that_repairs_reads_objects_and_sends_messages(template: Template) -> Iterator[str]:
    for given in ({}, EXISTING):
        for mode in ("yes", "repair"):
            stack = Stack(template, given | {"Flower": mode})
            bucket = "their-site" if given else stack.resolve({"Ref": "OutputBucket"})
            source = "their-photos" if given else stack.resolve({"Ref": "InputBucket"})
            asked = [Call("s3:GetObject", f"arn:aws:s3:::{name}/a") for name in (bucket, source)]
            asked += [Call("s3:ListBucket", f"arn:aws:s3:::{name}") for name in (bucket, source)]
            asked += [Call("kms:Decrypt", each) for name in KEYS for each in KEYS[name].split(",") if given]
            allowed = grants(stack, "FlowerRole")
            for call in asked:
                if any(grant.allows(call) for grant in allowed) != (mode == "repair"):
                    yield f"Flower={mode}: {call} is {'refused' if mode == 'repair' else 'allowed'}"
            if sends := [grant for grant in allowed if grant.action == "sqs:SendMessage" and mode == "yes"]:
                yield f"Flower=yes: {sends}"
            if writes := [grant for grant in allowed if grant.action in ("s3:PutObject", "s3:DeleteObject")]:
                yield f"Flower={mode}: {writes}"


@rule
def without_flower_nobody_sends_what_nobody_reads(template: Template) -> Iterator[str]:
    stack = Stack(template, {"Flower": "no"})
    if topics := [name for name in stack.resources("AWS::SNS::Topic") if name != "AlarmTopic"]:
        yield f"{topics} have no reader"
    (container,) = stack.properties("WorkerTask")["ContainerDefinitions"]
    if "TOPIC_ARN_PREFIX" in {entry["Name"] for entry in container["Environment"]}:
        yield "workers send events, and make queues that nobody sweeps"
    if extra := [
        grant for grant in grants(stack, "WorkerRole") if grant.action.startswith("sns:") or "pidbox" in str(grant)
    ]:
        yield f"WorkerRole may still {extra}"
