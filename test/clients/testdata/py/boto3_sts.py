import boto3
print(boto3.client("sts", region_name="eu-west-1", endpoint_url="https://sts.eu-west-1.amazonaws.com").get_caller_identity()["Arn"])
