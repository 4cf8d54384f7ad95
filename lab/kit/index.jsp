<%@ page session="false" trimDirectiveWhitespaces="true" %>
<% Thread.sleep(Long.parseLong(request.getParameter("delay"))); %>waited
