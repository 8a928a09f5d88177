# Greets a guest. Takes the event, and leaves the response in `response`, or an error there and a status that is not 0.
guests=0

# What a member of the event is, text or number; enough for a tutorial, not for any JSON.
member() {
    [[ $2 =~ \"$1\":\ ?(\"([^\"]*)\"|([0-9]+)) ]] && value=${BASH_REMATCH[2]:-${BASH_REMATCH[3]}}
}

handler() {
    local event=$1 value="" name="" text=""
    member exit "$event" && exit "$value"
    member sleep_ms "$event" && sleep "$((value / 1000)).$(printf %03d "$((value % 1000))")"
    member name "$event" && name=$value
    member text "$event" && text=$value
    if [[ -z $name ]]; then
        response='{"errorMessage":"nobody to greet","errorType":"Function.Nobody"}'
        return 1
    fi
    guests=$((guests + 1))
    echo "greeting $name"
    response='{"greeting":"'"${GREETING:-Hello}, $name"'!","guests":'"$guests"',"text":"'"$text"'","request_id":"'"$REQUEST_ID"'"'
    response+=',"arn":"'"$INVOKED_FUNCTION_ARN"'","function":"'"$AWS_LAMBDA_FUNCTION_NAME"'"'
    response+=',"remaining_ms":'"$((DEADLINE_MS - $(date +%s%3N)))"'}'
}
